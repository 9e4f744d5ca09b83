"""A data set in memory: what belongs to an image stays with it, and a hash changes with whatever figures depend on."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from tandem.datasets.building import build
from tandem.datasets.dataset import Dataset, StoredVectors
from tandem.datasets.rows import Request, Rows

NAMES = ("cat", "dog", "owl")
KEYS = tuple(f"{place}.png" for place in range(5))
CONTENTS = [key.encode() for key in KEYS]
VECTORS = np.arange(10, dtype=np.float32).reshape(5, 2)
CAPTIONS = tuple((f"caption of {key}",) * (1 + place % 2) for place, key in enumerate(KEYS))


class Contents:
    """Images that are no files."""

    def open(self, rows: Sequence[int]) -> Iterable[bytes]:
        return [CONTENTS[row] for row in rows]

    def digests(self, rows: Sequence[int]) -> list[bytes]:
        return [sha256(CONTENTS[row]).digest() for row in rows]


@pytest.fixture
def whole() -> Dataset:
    return Dataset(
        name="toys",
        source="/toys",
        layout="folder",
        split=None,
        keys=KEYS,
        digests=tuple(Contents().digests(range(5))),
        open_images=Contents().open,
        classes=NAMES,
        label_sets=((0,), (1,), (2,), (0,), (1,)),
        captions=CAPTIONS,
        stored=StoredVectors("f" * 64, VECTORS),
    )


def check_rows(found: Dataset, places: Sequence[int]) -> None:
    """All that a data set says of an image is that of the image at its place."""
    assert found.keys == tuple(KEYS[place] for place in places)
    assert list(found.images()) == [CONTENTS[place] for place in places]
    assert found.digests == tuple(Contents().digests(places))
    assert found.stored is not None
    assert found.stored.vectors.tolist() == VECTORS[list(places)].tolist()
    if found.classes:
        assert found.labels.tolist() == [place % 3 for place in places]
    if found.captions:
        assert found.captions == tuple(CAPTIONS[place] for place in places)


def test_what_belongs_to_an_image_is_taken_with_it(whole: Dataset) -> None:
    check_rows(whole, range(5))
    check_rows(whole.take([4, 1, 3]), [4, 1, 3])
    check_rows(whole.take([4, 1, 3]).take([2, 0]), [3, 4])


def test_the_hash_is_of_all_that_figures_depend_on(whole: Dataset) -> None:
    others = [
        replace(whole, label_sets=((1,), *whole.label_sets[1:])),
        replace(whole, captions=(("another",), *CAPTIONS[1:])),
        replace(whole, classes=("kitten", *NAMES[1:])),
        replace(whole, multi_label=True),
        replace(whole, digests=whole.digests[::-1]),
    ]
    assert len({each.hash for each in (whole, *others)}) == 6
    assert {each.images_hash for each in others[:4]} == {whole.images_hash} != {others[4].images_hash}
    # What it is called and where it lies changes no figure.
    assert replace(whole, name="x", source="/y", split="test", notes=("z",)).hash == whole.hash


def rows(labelled: Sequence[int], captioned: Sequence[int]) -> Rows:
    return Rows(
        name="toys",
        keys=KEYS,
        images=Contents(),
        labels=[(NAMES[place % 3],) if place in labelled else None for place in range(5)],
        captions=[CAPTIONS[place] if place in captioned else () for place in range(5)],
        stored=StoredVectors("f" * 64, VECTORS),
    )


def test_rows_that_are_left_out_take_all_that_is_theirs_with_them() -> None:
    by_label = build(rows([2, 3, 4], [0, 1, 4]), Request("/toys"), "table")
    check_rows(by_label, [2, 3, 4])
    assert by_label.captions == ()  # not all that are kept have one
    assert by_label.notes == ("2 of 5 images have a caption but no label, and were left out",)
    by_caption = build(rows([0, 1, 4], [2, 3, 4]), Request("/toys", caption="text"), "table")
    check_rows(by_caption, [2, 3, 4])
    assert by_caption.classes == ()
    drawn = build(rows([1, 2, 3, 4], [0]), Request("/toys"), "table", limit=2, seed=1)
    check_rows(drawn, [KEYS.index(key) for key in drawn.keys])
    assert len(drawn) == 2
