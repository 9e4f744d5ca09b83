"""What a collection stores for each image, read from the image."""

import hashlib
import io
from typing import Any

import pytest
from PIL import Image, TiffImagePlugin
from support import toy

from tandem.image import decode
from tandem.search.indexing.image_record import COLUMNS, THUMBNAIL_SIDE, describe, digest_of_id, id_of_digest, image_id

Rational = TiffImagePlugin.IFDRational


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_exif(base: dict[int, Any], inner: dict[int, Any], place: dict[int, Any]) -> bytes:
    exif = Image.Exif()
    exif.update(base)
    exif.get_ifd(0x8769).update(inner)
    exif.get_ifd(0x8825).update(place)
    return encoded(toy.random_image(size=(60, 40)), exif=exif.tobytes())


def described(content: bytes, at_least: int | None = None) -> dict[str, Any]:
    decoded = decode(content, at_least=at_least)
    return describe(decoded.image, content, (decoded.width, decoded.height))


def test_the_id_is_the_content() -> None:
    digest = hashlib.sha256(b"abc").hexdigest()
    assert image_id(b"abc") == id_of_digest(digest) == id_of_digest(image_id(b"abc")) == digest[:32]
    assert digest_of_id(image_id(b"abc")) == hashlib.sha256(digest[:32].encode()).digest()


def test_a_photo_of_a_phone() -> None:
    degrees = (Rational(48), Rational(51), Rational(2952, 100))
    west = (Rational(2), Rational(21), Rational(0))
    content = with_exif(
        {0x0112: 6, 0x0132: "2024:01:01 00:00:00"},
        {0x9003: "2023:05:01 12:30:05", 0x9011: "+02:00"},
        {1: "N", 2: degrees, 3: "W", 4: west},
    )
    values = described(content)
    assert (values["width"], values["height"]) == (40, 60)  # upright
    assert values["bytes"] == len(content)
    assert values["format"] == "JPEG"
    assert values["taken"] == "2023-05-01T12:30:05+02:00"
    assert values["latitude"] == pytest.approx(48.8582)
    assert values["longitude"] == pytest.approx(-2.35)
    assert set(values) < set(COLUMNS)
    thumbnail = Image.open(io.BytesIO(values["thumbnail"]))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (40, 60))


def test_the_time_falls_back_to_when_the_file_was_written() -> None:
    content = with_exif({0x0132: "2024:01:02 03:04:05"}, {0x9003: "0000:00:00 00:00:00"}, {})
    assert described(content)["taken"] == "2024-01-02T03:04:05"


@pytest.mark.parametrize(
    ("base", "inner", "place"),
    [
        ({}, {}, {}),
        ({0x0132: "    :  :     :  :  "}, {0x9003: "yesterday"}, {}),
        ({}, {0x9003: 7}, {1: "N", 2: (Rational(1, 0), Rational(0), Rational(0)), 3: "E", 4: (1.0, 2.0, 3.0)}),
        ({}, {}, {1: "N", 2: (Rational(99), Rational(0), Rational(0)), 3: "E", 4: (Rational(1),) * 3}),
        ({}, {}, {2: (Rational(9), Rational(0), Rational(0))}),
        ({}, {}, {1: "N", 2: Rational(9), 3: "E", 4: Rational(9)}),
    ],
)
def test_values_that_mean_nothing_are_none(base: dict[int, Any], inner: dict[int, Any], place: dict[int, Any]) -> None:
    values = described(with_exif(base, inner, place))
    assert (values["taken"], values["latitude"], values["longitude"]) == (None, None, None)


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_damaged_exif_never_fails() -> None:
    whole = with_exif({0x0112: 1}, {0x9003: "2023:05:01 12:30:05"}, {1: "N", 2: (Rational(1),) * 3})
    start = whole.index(b"Exif\0\0") + 6
    length = int.from_bytes(whole[start - 8 : start - 6], "big") - 8
    assert length > 100
    for at in range(start, start + length):
        content = whole[:at] + b"\xff" + whole[at + 1 :]
        values = described(content)
        assert values["width"] in (40, 60)
        assert values["thumbnail"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_thumbnails_of_every_mode(mode: str) -> None:
    image = toy.random_image(size=(700, 350)).convert(
        "L" if mode in ("I;16", "I", "F") else "RGBA" if mode == "PA" else "RGB"
    )
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    values = describe(image, b"x")
    thumbnail = Image.open(io.BytesIO(values["thumbnail"]))  # type: ignore[arg-type]
    assert (thumbnail.mode, thumbnail.size) == ("RGB", (THUMBNAIL_SIDE, THUMBNAIL_SIDE // 2))


@pytest.mark.slow
def test_a_shrunken_image_is_described_whole() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    content = encoded(toy.random_image(size=(2000, 1200)), exif=exif.tobytes(), quality=95)
    decoded = decode(content, at_least=128)
    assert decoded.shrunk
    assert decoded.image.size == (150, 250)
    whole, fast = described(content), described(content, 128)
    small, same = (Image.open(io.BytesIO(values.pop("thumbnail"))) for values in (fast, whole))
    assert fast == whole
    assert fast["width"] == 1200
    assert small.size == (150, 250)
    assert same.size == (round(THUMBNAIL_SIDE * 0.6), THUMBNAIL_SIDE)
    assert not decode(content, at_least=1200).shrunk
    assert not decode(encoded(toy.random_image(size=(2000, 1200)), "PNG"), at_least=128).shrunk


def test_more_images_behind_the_first_are_a_jpeg_to_users() -> None:
    content = encoded(toy.random_image(0), "MPO", save_all=True, append_images=[toy.random_image(1)])
    assert described(content)["format"] == "JPEG"


def test_columns_are_of_kinds_a_store_knows() -> None:
    assert set(COLUMNS.values()) <= {"text", "integer", "real", "bytes"}
    assert COLUMNS["thumbnail"] == "bytes"
