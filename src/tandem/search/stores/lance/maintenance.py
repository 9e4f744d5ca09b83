"""What a writer does beside writing: small files become large ones, indexes follow, old versions go.

LanceDB writes a file and a version for each commit and keeps them until it is told otherwise. Each version is numbered,
so whoever writes one that passes a multiple of `LOOK_EVERY` looks after the table, whichever process that is: nothing
has to be remembered from one writer to the next.
"""

import logging
from datetime import timedelta
from typing import Any

from tandem.errors import StoreBusyError, StoreError
from tandem.search.stores.lance.database import Database
from tandem.search.stores.lance.snapshots import IN_MEMORY

LOOK_EVERY = 32  # versions
COMPACT_EVERY = 256  # versions
KEEP = timedelta(hours=1)  # old versions, for who reads from one
ID_INDEX_FROM = 5_000  # records; below, a scan of the ids is as quick
INDEX_FROM = IN_MEMORY
OUTGROWN = 4  # times the records that an index was made for
UNINDEXED_AT_REST = 2_000  # records; more are added to the indexes when a writer is done
FRAGMENTS_AT_REST = 16
_SUFFIX = "_for_"  # an index is named by how many records it was made for

_log = logging.getLogger(__name__)


def after_commit(database: Database, table: Any, before: int, after: int) -> None:
    """Look after a table that was committed to, if it is time."""
    if before // LOOK_EVERY != after // LOOK_EVERY:
        _look_after(database, table, compact=before // COMPACT_EVERY != after // COMPACT_EVERY, at_rest=False)


def at_rest(database: Database, table: Any) -> None:
    """The same, by a writer that is done: the next search should be fast."""
    _look_after(database, table, compact=False, at_rest=True)


def _look_after(database: Database, table: Any, compact: bool, at_rest: bool) -> None:
    try:
        with database.errors():
            stats = table.stats()
            rows, fragments = int(stats["num_rows"]), int(stats["fragment_stats"]["num_fragments"])
            indexes = {each.columns[0]: each for each in table.list_indices()}
            # Compacting rewrites up to a million records: the more there are, the more new files are worth it.
            many = FRAGMENTS_AT_REST if at_rest else max(64, min(512, rows // 2_000))
            behind = max((int(each.num_unindexed_rows or 0) for each in indexes.values()), default=0)
            if compact or fragments > many or behind > (UNINDEXED_AT_REST if at_rest else max(INDEX_FROM, rows // 5)):
                _log.info("%s: compacting %s records in %s files", database.address.url, f"{rows:,}", fragments)
                table.optimize(cleanup_older_than=KEEP)
            _index(table, rows, indexes)
    except StoreError as error:
        # What is derived can be made another time, and is made by another writer if that one was in the way.
        level = logging.DEBUG if isinstance(error, StoreBusyError) else logging.WARNING
        _log.log(level, "%s: not compacted and indexed now (%s)", database.address.url, error)


def _index(table: Any, rows: int, indexes: dict[str, Any]) -> None:
    """Make the indexes that are worth it, anew where the table has outgrown one."""
    from lancedb.index import BTree, IvfFlat, IvfRq

    if rows >= ID_INDEX_FROM and "id" not in indexes:
        table.create_index("id", config=BTree())
    if rows < INDEX_FROM:
        return
    known = indexes.get("vector")
    if known is not None:
        made_for = known.name.rpartition(_SUFFIX)[2]
        if made_for.isdecimal() and rows <= OUTGROWN * int(made_for):
            return
    _log.info("building the index over %s vectors", f"{rows:,}")
    dimensions = int(table.schema.field("vector").type.list_size)
    kind = IvfFlat if dimensions % 8 else IvfRq  # RaBitQ packs eight dimensions to a byte
    table.create_index("vector", config=kind(distance_type="dot"), name=f"vector{_SUFFIX}{rows}", replace=True)
    if known is not None:
        table.drop_index(known.name)
