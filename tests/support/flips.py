"""Single bytes changed in a collection's files, and whether what it answers then is right, or says that it is not."""

import json
import random
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from support import toy
from support.collection_toys import toy_model
from tandem.errors import TandemError
from tandem.search.checking import Check
from tandem.search.collection import Collection
from tandem.search.stores.embedded import index_maintainer, nearest

FILTERS = ("width > 30", "path like '%1%'", "caption is not null")
PATH, PATHS, WIDTH, CAPTION = 0, 1, 2, 9  # of the values of a record
HOLDS: tuple[Callable[[tuple[Any, ...]], bool], ...] = (  # the filters
    lambda record: record[WIDTH] > 30,
    lambda record: any("1" in path for path in json.loads(record[PATHS])),
    lambda record: record[CAPTION] is not None,
)
HITS = 5


@dataclass(frozen=True)
class Answers:
    """What a collection answers: of each search its hits, of each record its values, how many pass each filter."""

    hits: tuple[tuple[tuple[str, float, str], ...], ...]
    rankings: tuple[tuple[tuple[str, float, str], ...], ...]  # the same without an end
    records: dict[str, tuple[Any, ...]]
    thumbnails: dict[str, bytes | None]
    passing: tuple[int, ...]


@contextmanager
def small_indexes() -> Iterator[None]:
    """An index over vectors and over columns from twenty records on."""
    kept = index_maintainer.INDEX_FROM, nearest.EXACT_BELOW, nearest.CANDIDATES
    index_maintainer.INDEX_FROM, nearest.EXACT_BELOW, nearest.CANDIDATES = 20, 5, 8
    try:
        yield
    finally:
        index_maintainer.INDEX_FROM, nearest.EXACT_BELOW, nearest.CANDIDATES = kept


def make(folder: Path, images: int) -> Collection:
    """A collection of a few images with captions, one of them deleted and one twice."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    for number in range(images):
        toy.random_image(number, (24 + number % 20, 20)).save(pictures / f"{number:03}.png")
        if number % 3 == 0:
            (pictures / f"{number:03}.txt").write_text(f"picture {number}")
    shutil.copy(pictures / "001.png", pictures / "again.png")
    photos = Collection(str(folder / "c.tandem"), toy_model())
    photos.add([pictures])
    first = next(iter(photos.store.scan(columns=["path"], vectors=False, where="path like '%002.png'"))).ids
    photos.delete(list(first))
    (pictures / "002.png").unlink()
    photos.close()
    photos.backend.open(write=True).close()  # the last one to close it folds its log into the database
    return photos


def answers(url: str) -> Answers:
    """Everything that a collection is asked."""
    queries = np.random.default_rng(5).standard_normal((3, toy.DIMENSIONS)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    with Collection(url, toy_model()) as photos:
        store = photos.store
        assert photos.notes["identity"]
        found, ranked = (
            [*store.search(queries, k), *store.search(queries[:1], k, where=FILTERS[0])] for k in (HITS, 1000)
        )
        records: dict[str, tuple[Any, ...]] = {}
        thumbnails: dict[str, bytes | None] = {}
        for some in store.scan(vectors=True):
            assert some.vectors is not None
            for row, id in enumerate(some.ids):
                records[id] = (*some.row(row).values(), some.vectors[row].tobytes())
        for id in sorted(records):
            held = store.get([id], columns=["thumbnail"])
            if len(held):
                thumbnails[id] = held.columns["thumbnail"][0]  # type: ignore[assignment]
        passing = tuple(store.count(where) for where in FILTERS)
    hits, rankings = (
        tuple(tuple((hit.id, hit.score, str(hit.metadata["path"])) for hit in each) for each in some)
        for some in (found, ranked)
    )
    return Answers(hits, rankings, records, thumbnails, passing)


def outcome(url: str, truth: Answers) -> tuple[str, str]:
    """`same`, `refused` (an error of one line), `told` (a warning; the rest is right) or `silent`; what was said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            now = answers(url)
        except TandemError as error:
            return "refused", str(error)
    told = "; ".join(str(each.message) for each in caught)
    if now == truth:
        return "same", told
    return ("told" if told and _is_part_of(now, truth) else "silent"), told


def _is_part_of(now: Answers, truth: Answers) -> bool:
    """Whether what is answered is all right, although something is missing: ranks, scores and counts are those of the
    images that are left.
    """
    right = {id: record for id, record in now.records.items() if truth.records.get(id) == record}
    shown = {id: content for id, content in now.thumbnails.items() if content in (None, truth.thumbnails.get(id))}
    left = [[hit for hit in ranking if hit[0] in now.records] for ranking in truth.rankings]
    ranks = all(map(_are_the_same, now.rankings, left))
    hits = all(map(_are_the_same, now.hits, [ranking[:HITS] for ranking in left]))
    passing = [
        sum(holds(now.records[id]) for id in now.records) <= count <= most
        for holds, count, most in zip(HOLDS, now.passing, truth.passing, strict=True)
    ]  # a record whose vector alone is damaged is counted still
    return right == now.records and shown == now.thumbnails and ranks and hits and all(passing)


def _are_the_same(found: Sequence[tuple[str, float, str]], right: Sequence[tuple[str, float, str]]) -> bool:
    """Whether the hits are the same in the same order, with the same scores."""
    named = [(id, path) for id, _, path in found] == [(id, path) for id, _, path in right]
    return named and np.allclose([hit[1] for hit in found], [hit[1] for hit in right], rtol=0, atol=1e-6)


@dataclass(frozen=True)
class Flip:
    """A byte of a file, and the bits of it that are changed."""

    file: Path
    at: int
    bits: int

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The file with the byte changed; as it was at the end."""
        content = self.file.read_bytes()
        self._write(content, content[self.at] ^ self.bits)
        try:
            yield
        finally:
            for suffix in ("-wal", "-shm"):
                Path(f"{self.file}{suffix}").unlink(missing_ok=True)
            self.file.write_bytes(content)

    def apply(self) -> None:
        content = self.file.read_bytes()
        self._write(content, content[self.at] ^ self.bits)

    def _write(self, content: bytes, value: int) -> None:
        self.file.write_bytes(content[: self.at] + bytes([value]) + content[self.at + 1 :])


def flips(root: Path, count: int, seed: int) -> Iterator[Flip]:
    """Bytes of a collection's files: every second one of any file alike, the others of all bytes alike."""
    draw = random.Random(seed)
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    files = [path for path in files if path.stat().st_size]
    sizes = [path.stat().st_size for path in files]
    for number in range(count):
        file = draw.choice(files) if number % 2 else draw.choices(files, sizes)[0]
        yield Flip(file, draw.randrange(file.stat().st_size), 1 << draw.randrange(8) if number % 4 < 2 else 255)


def checked(url: str, *, repair: bool = False) -> Check:
    with Collection(url, toy_model()) as photos:
        return photos.check(repair=repair)
