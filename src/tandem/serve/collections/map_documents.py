"""The map of a collection as a JSON document, computed in a thread once per state of the collection.

This takes seconds to minutes: early requests get None, later ones the document. Knows stores and models; no
HTTP.
"""

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.errors import TandemError
from tandem.model import Model
from tandem.search.exploring.explore import explore
from tandem.search.exploring.map2d import Coordinates
from tandem.search.exploring.survey import survey_rows
from tandem.search.stores.protocol import Records, Store

MAX_IMAGES = 50_000  # in a document: more points tell nothing more on a screen
DIGITS = 4  # of coordinates

_log = logging.getLogger(__name__)


@dataclass
class _Work:
    """The result for one state of a collection: a document, the error in its place, or neither yet."""

    state: object
    document: bytes | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.document is not None or self.error is not None


class MapDocuments:
    """Documents by collection name; one is computed at a time, since it keeps all processors busy."""

    def __init__(self) -> None:
        self._works: dict[str, _Work] = {}
        self._lock = threading.Lock()
        self._making = threading.Lock()

    def get(self, name: str, state: object, make: Callable[[], bytes]) -> bytes | None:
        """The document of a collection in this state; None while it is computed.

        `make` runs in another thread, once for each state. What it raises is raised here, once; the next call tries
        again.
        """
        with self._lock:
            work = self._works.get(name)
            if work is not None and work.state != state and not work.is_done:
                return None  # of an earlier state: who keeps changing the collection starts no second one
            if work is None or work.state != state:
                work = self._works[name] = _Work(state)
                thread = threading.Thread(target=self._run, args=(work, make), name="tandem-map", daemon=True)
                thread.start()
            elif work.error is not None:
                del self._works[name]
                raise work.error
            return work.document

    def _run(self, work: _Work, make: Callable[[], bytes]) -> None:
        try:
            with self._making:
                work.document = make()
        except Exception as error:  # whatever it is, the request that asks next gets it
            if not isinstance(error, TandemError):
                _log.exception("the map could not be computed")
            work.error = error


def map_document(store: Store, model: Model, *, most: int = MAX_IMAGES) -> bytes:
    """`{"count", "images": [{"id", "path", "x", "y", "cluster"}], "clusters": [{"name", "words", "size", ...}]}`.

    A cluster that no word clearly sets apart has null as its name. For more than `most` images it lists every
    second, third and so on; `count` is the total.
    """
    total = store.count()
    step = max(1, -(-total // most))
    images: list[dict[str, Any]] = []
    seen = 0

    def add(records: Records, coordinates: Coordinates, clusters: NDArray[np.int32]) -> None:
        nonlocal seen
        images.extend(survey_rows(records, coordinates, clusters, digits=DIGITS, start=-seen % step, step=step))
        seen += len(records)

    found = explore(store, model, columns=["path"], each=add)
    clusters = [cluster.as_dict(DIGITS) for cluster in found.clusters]
    document = {"count": seen, "images": images, "clusters": clusters}
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
