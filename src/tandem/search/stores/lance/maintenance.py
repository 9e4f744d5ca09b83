"""Maintenance: compaction, indexes, removal of old versions.

LanceDB writes a file and a version for each commit and keeps them until they are removed. Versions are numbered, and
the writer whose version passes a multiple of `LOOK_EVERY` maintains the table: writers share no other state.
"""

import logging
from datetime import timedelta
from typing import Any

from tandem.errors import StoreBusyError, StoreError
from tandem.search.stores.lance.database import Database
from tandem.search.stores.lance.snapshots import IN_MEMORY

LOOK_EVERY = 32  # versions
COMPACT_EVERY = 256  # versions
KEEP = timedelta(hours=1)  # for readers of an old version
ID_INDEX_FROM = 5_000  # records; below, a scan of the ids is as quick
INDEX_FROM = IN_MEMORY
OUTGROWN = 4  # times the records that an index was made for
UNINDEXED_AT_REST = 2_000  # records; more are added to the indexes when a writer is done
FRAGMENTS_AT_REST = 16
_SUFFIX = "_for_"  # an index is named by how many records it was made for

_log = logging.getLogger(__name__)


def after_commit(database: Database, table: Any, before: int, after: int) -> None:
    """Maintain a table after a commit, if maintenance is due."""
    if before // LOOK_EVERY != after // LOOK_EVERY:
        _look_after(database, table, compact=before // COMPACT_EVERY != after // COMPACT_EVERY, at_rest=False)


def at_rest(database: Database, table: Any) -> None:
    """Maintain a table when a writer closes it, so that the next search is fast."""
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
        # Maintenance can be repeated later; a conflict means that another writer is doing it.
        level = logging.DEBUG if isinstance(error, StoreBusyError) else logging.WARNING
        _log.log(level, "%s: not compacted and indexed now (%s)", database.address.url, error)


def _index(table: Any, rows: int, indexes: dict[str, Any]) -> None:
    """Build the indexes that pay off, and rebuild one that the table has outgrown."""
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
