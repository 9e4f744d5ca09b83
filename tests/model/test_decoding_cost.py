"""What decoding is said to take, from a header, is what it takes: no less, and not much more."""

import io

import numpy as np
import pytest
from PIL import Image
from support.bounded import bounded
from support.costs import known
from support.decoding_peaks import SAVED

from tandem.decoding import cost, jpeg
from tandem.errors import ImageError
from tandem.image import DEFAULT_LIMITS, Limits, decode, load_image

NOISE_MB = 1.0  # Python's own, and a decoder's tables
THREADS_MB = 8.0  # of decoders that start some, whatever the image's size


def _noise_mb(name: str) -> float:
    return THREADS_MB if name.startswith(("AVIF", "HEIC")) else NOISE_MB


@known
@pytest.mark.slow
def test_memory_is_counted_as_it_is_taken() -> None:
    pytest.importorskip("pillow_heif")
    imported = ("tandem.image", "PIL.AvifImagePlugin", "pillow_heif", "support.decoding_peaks")
    found: dict[str, list[float]] = {}
    for name in SAVED:  # apart: what one has freed would be taken by the next
        found |= bounded("support.decoding_peaks:measured", name, imported=imported).result
    assert set(found) == set(SAVED)
    too_low = {name: each for name, each in found.items() if each[0] > 1.03 * each[1] + _noise_mb(name)}
    assert not too_low
    too_high = {name: each for name, each in found.items() if each[1] > 1.3 * each[0] + NOISE_MB}
    converted = {"GIF", "PNG of 16 bits", "TIFF of 16 bits, deflated"}  # afterwards, when they are made smaller
    assert set(too_high) <= converted


def _saved(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (160, 96), (9, 99, 199)).save(file, kind, **options)
    return file.getvalue()


def _sized(content: bytes, width: int, height: int) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image._size = (width, height)  # a header of so many pixels
    return image


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"progressive": True, "subsampling": 2}),
        ("JPEG", {"progressive": True, "subsampling": 0}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("PNG", {}),
        ("AVIF", {"speed": 10}),
        ("AVIF", {"speed": 10, "subsampling": "4:4:4"}),
    ],
)
def test_ordinary_images_of_the_most_pixels_are_read_by_default(kind: str, options: dict[str, object]) -> None:
    width, height = 16_000, DEFAULT_LIMITS.max_pixels // 16_000
    content = _saved(kind, **options)
    if kind == "JPEG":
        at = content.index(b"\xff\xc2") + 5
        content = content[:at] + height.to_bytes(2) + width.to_bytes(2) + content[at + 4 :]
        assert cost.memory(Image.open(io.BytesIO(content))) > 3 * width * height  # coefficients of all of them count
    assert cost.memory(_sized(content, width, height), turned=True) <= DEFAULT_LIMITS.max_decoded_bytes


def test_coefficients_count_where_a_jpeg_is_shrunk_while_it_is_decoded() -> None:
    image = Image.open(io.BytesIO(_saved("JPEG", progressive=True, subsampling=0)))
    image.draft(None, (20, 12))
    assert image.size == (20, 12)
    assert cost.memory(image) == 160 * 96 * 6 + 20 * 12 * 4


def test_a_jpeg_of_a_scan_for_each_component_holds_coefficients() -> None:
    """It is not progressive; the scan's header is that of one component of three."""
    content = _saved("JPEG", subsampling=0)
    assert jpeg.held_coefficients(io.BytesIO(content)) == 0
    at = content.index(b"\xff\xda") + 4
    assert content[at] == 3
    single = content[: at - 2] + b"\0\x08\1" + content[at + 1 : at + 3] + content[at + 7 :]
    assert jpeg.held_coefficients(io.BytesIO(single)) == 160 * 96 * 6


def test_an_image_that_is_turned_counts_twice() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = _saved("JPEG", exif=exif)
    with pytest.raises(ImageError, match=r"160 x 96 pixels of JPEG \(RGB\) take .* \(max_decoded_bytes\)"):
        load_image(content, limits=Limits(max_decoded_bytes=8 * 160 * 96 - 1))
    assert load_image(content, limits=Limits(max_decoded_bytes=8 * 160 * 96)).size == (96, 160)
    assert load_image(content, limits=Limits(max_decoded_bytes=4 * 160 * 96), orient=False).size == (160, 96)


def test_a_png_may_tell_behind_its_pixels_that_it_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = _saved("PNG", exif=exif)
    at = content.index(b"eXIf") - 4
    size = 12 + int.from_bytes(content[at : at + 4])
    end = content.index(b"IEND") - 4
    late = content[:at] + content[at + size : end] + content[at : at + size] + content[end:]
    with pytest.raises(ImageError, match="max_decoded_bytes"):
        load_image(late, limits=Limits(max_decoded_bytes=8 * 160 * 96 - 1))
    assert load_image(late, limits=Limits(max_decoded_bytes=8 * 160 * 96)).size == (96, 160)


def test_webp_is_decoded_as_pillow_does_it() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 4), dtype=np.uint8)
    frames = [Image.fromarray(noise), Image.fromarray(noise[::-1].copy())]
    for options in ({}, {"lossless": True}, {"save_all": True, "append_images": frames[1:], "lossless": True}):
        file = io.BytesIO()
        frames[0].save(file, "WEBP", **options)
        theirs = Image.open(io.BytesIO(file.getvalue()))
        ours = decode(file.getvalue()).image
        assert (ours.mode, ours.format) == (theirs.mode, "WEBP")
        assert ours.tobytes() == theirs.tobytes()
    with pytest.raises(ImageError):
        load_image(file.getvalue()[:200])


# --- scans -----------------------------------------------------------------------------------------------------------


def _scans(count: int, width: int, height: int, between: bytes = b"") -> io.BytesIO:
    content = _saved("JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    repeated = content[:-2] + (between + last) * (count - content.count(b"\xff\xda")) + b"\xff\xd9"
    at = repeated.index(b"\xff\xc2") + 5
    return io.BytesIO(repeated[:at] + height.to_bytes(2) + width.to_bytes(2) + repeated[at + 4 :])


@pytest.mark.parametrize("between", [b"", b"\xff\xfe\0\4\xff\xd9"])  # a comment that looks like the end
def test_scans_are_bounded_by_their_pixels(between: bytes) -> None:
    said = "a JPEG of more than 32 scans of 49,000,000 pixels"
    assert jpeg.detect(_scans(99, 7000, 7000, between)) == said
    assert jpeg.detect(_scans(33, 7000, 7000, between)) == said
    assert jpeg.detect(_scans(32, 7000, 7000, between)) is None
    assert jpeg.detect(_scans(99, 4000, 4000, between)) is None
    assert jpeg.detect(_scans(101, 1000, 1000, between)) == "a JPEG of more than 100 scans"
    assert jpeg.detect(_scans(12, 16_000, 8_000, between)) is None


def test_scans_of_other_images_in_the_file_do_not_count() -> None:
    """Phones write previews into the metadata and other images behind the first."""
    whole = _scans(11, 16_000, 8_000).getvalue()
    preview = b"\xff\xe1" + (60_000).to_bytes(2) + (b"\xff\xda" * 20).ljust(59_998, b"\0")
    assert jpeg.detect(io.BytesIO(whole[:2] + preview + whole[2:] + whole)) is None
