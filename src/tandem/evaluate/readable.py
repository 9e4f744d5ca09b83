"""Which images of a data set can be read, found out before work begins that would be lost."""

from collections.abc import Mapping
from typing import Literal

from tandem.datasets.dataset import Dataset
from tandem.errors import DataError, ImageError
from tandem.image import Limits, load_image

OnError = Literal["raise", "skip"]


class UnreadableImagesError(DataError):
    """Some images of a data set cannot be read, and others can: it can be measured without them."""


def readable(dataset: Dataset, on_error: OnError) -> Dataset:
    """The data set with the images that can be read, each of which is decoded once, and a note on the others.

    Raises `DataError` where none can be read, or with "raise" where one cannot.
    """
    failures: dict[int, ImageError] = {}
    for place, source in enumerate(dataset.images()):
        try:
            load_image(source, limits=Limits())
        except ImageError as error:
            failures[place] = error.renewed(dataset.keys[place])
    if not failures:
        return dataset
    note = unreadable_note(dataset, failures, on_error)
    return dataset.take([place for place in range(len(dataset)) if place not in failures], note)


def unreadable_note(dataset: Dataset, failures: Mapping[int, ImageError], on_error: OnError) -> str:
    """What is noted of images, by their places, that are left out; or the error that counts them."""
    what = f"{len(failures):,} of {len(dataset):,} images cannot be read; the first is {failures[min(failures)]}"
    if len(failures) == len(dataset):
        raise DataError(f"{dataset.name}: {what}")
    if on_error == "raise":
        raise UnreadableImagesError(f"{dataset.name}: {what}")
    return f"{what}: left out"
