"""Validation reads images by the door that every other image comes through."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.images import announcing, encoded, scene
from support.training_toys import MODEL, NAMED, recipe, write_parquet

from tandem.errors import DataError
from tandem.image import load_pixels
from tandem.train.recipe import Recipe
from tandem.train.run.validation import read_validation


def _recipe(root: Path) -> Recipe:
    if not (root / "names.parquet").exists():
        write_parquet(root / "names.parquet")
    validation = {"zero_shot": "held-out.parquet", "names": "names"}
    return recipe(root, NAMED, validation=validation)


def _held_out(root: Path, *images: bytes | None) -> Recipe:
    names = [f"name {i}" for i in range(len(images))]
    pq.write_table(pa.table({"image": pa.array(images, pa.binary()), "names": names}), root / "held-out.parquet")
    return _recipe(root)


def test_pixels_are_those_of_every_other_door(tmp_path: Path) -> None:
    """A photo that its EXIF orientation turns is validated upright, as it is searched for and embedded."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(scene(), "JPEG", exif=exif)
    (found,) = read_validation(recipe := _held_out(tmp_path, turned, encoded(scene(), "PNG")))
    upright = load_pixels(turned, recipe.model.preprocessing)
    assert MODEL["vision"]["image_size"] == len(upright)
    assert np.array_equal(found.pixels[0], upright)
    assert not np.array_equal(found.pixels[0], load_pixels(turned, recipe.model.preprocessing, orient=False))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (encoded(scene(), "PCX"), "not an image in a format that is read"),
        (encoded(scene(), "JPEG")[:300], "damaged|truncated"),
        (announcing(19_000, 10_000), r"19,000 x 10,000 pixels, more than the limit"),
    ],
    ids=["PCX", "cut off", "too large"],
)
def test_what_the_door_refuses_ends_the_run(tmp_path: Path, image: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=rf"held-out\.parquet#0: an image of a validation set .*({reason})"):
        read_validation(_held_out(tmp_path, image))


def test_a_row_without_an_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"held-out\.parquet: row 1 has no image bytes"):
        read_validation(_held_out(tmp_path, encoded(scene(), "PNG"), None))
