"""Labelled images as a policy sees them: which of them show each category, and each image once.

Shapes: n images.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tandem.datasets.dataset import Dataset
from tandem.errors import DataError, did_you_mean, named
from tandem.evaluate.features import Features
from tandem.moderation.category_fitting import Shown
from tandem.search.indexing.image_record import digest_of_id, id_of_digest


def classes_of(
    categories: Iterable[str], labelled: Dataset, shows: Mapping[str, Sequence[str]], *, some: bool = False
) -> dict[str, Shown]:
    """Whether each image shows a category [n], for the categories that classes of the data set stand for.

    A class of the same name does, or those that `shows` gives. Raises `DataError` for one of them that the data set
    does not have, unless `some` of them are enough.
    """
    known = {_plain(name): place for place, name in enumerate(labelled.classes)}
    found = {}
    for name in categories:
        given = shows.get(name)
        missing = [each for each in given or () if _plain(each) not in known]
        if missing and not some:
            near = did_you_mean(missing[0], labelled.classes)
            raise DataError(f"{labelled.name}: no class {missing[0]!r}{near}; there are {named(labelled.classes)}")
        places = [known[_plain(each)] for each in given or (name,) if _plain(each) in known]
        if places:
            found[name] = np.asarray(labelled.label_matrix[:, places].any(axis=1))
    return found


def check_classes(categories: Iterable[str], shows: Mapping[str, Sequence[str]]) -> None:
    """Raise `DataError` for classes that are given for no category."""
    wanted = list(categories)
    for name in shows:
        if name not in wanted:
            raise DataError(f"no category {name[:100]!r}{did_you_mean(name, wanted)}; there are {named(wanted)}")


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())


def distinct(data: Features) -> tuple[Features, tuple[str, ...]]:
    """Each image once, with the data set's notes: a copy would answer for one that is left out."""
    first: dict[bytes, int] = {}
    for place, digest in enumerate(data.dataset.digests):
        other = first.setdefault(digest, place)
        if data.dataset.label_sets[other] != data.dataset.label_sets[place]:
            raise DataError(
                f"{data.dataset.name}: one image has two labels: {data.dataset.keys[other]} and "
                f"{data.dataset.keys[place]} are the same; remove one of them"
            )
    copies = len(data) - len(first)
    if not copies:
        return data, tuple(data.dataset.notes)
    note = f"{copies:,} {'copy of an image was' if copies == 1 else 'copies of images were'} left out"
    return data.take(list(first.values())), (*data.dataset.notes, note)


def without(corrections: Features, labelled: Features) -> Features:
    """The corrections that are none of the labelled images, which have their labels.

    The digests of a collection are those of its images' ids, which begin as the digests of their files do.
    """
    known = set(labelled.dataset.digests)

    def is_new(digest: bytes) -> bool:
        return digest not in known and digest_of_id(id_of_digest(digest.hex())) not in known

    return corrections.take([place for place, each in enumerate(corrections.dataset.digests) if is_new(each)])
