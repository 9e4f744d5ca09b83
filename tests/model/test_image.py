"""Images from every kind of source and format, upright, within limits; and nothing but ImageError."""

import errno
import io
import os
import random
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.images import SQUARE, encoded, scene

from tandem.errors import ImageError
from tandem.image import Limits, load_image, preprocess, source_name
from tandem.image_source import read_bytes


def test_every_kind_of_source_gives_the_same_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(scene(), "PNG")
    path = tmp_path / "scene.png"
    path.write_bytes(content)
    monkeypatch.setenv("HOME", str(tmp_path))
    array = np.asarray(scene())
    sources = [path, str(path), "~/scene.png", content, bytearray(content), io.BytesIO(content), scene(), array]
    sources += [Image.open(path), array.astype(np.float32) / 255, np.ascontiguousarray(array[:, ::-1])[:, ::-1]]
    with path.open("rb") as file:
        for source in [*sources, file]:
            assert (np.asarray(load_image(source)) == array).all(), source_name(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 1), (40, 60, 3), (40, 60, 4)])
def test_arrays_of_one_three_and_four_channels(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    image = load_image(array)
    assert image.size == (60, 40)
    assert (np.asarray(image) == array.reshape(image.height, image.width, -1).squeeze()).all()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 4, 2), np.uint8), "[4, 4, 2]"),
        (np.zeros((2, 3, 4, 4), np.uint8), "[2, 3, 4, 4]"),
        (np.zeros((0, 4, 3), np.uint8), "[0, 4, 3]"),
        (np.full((4, 4, 3), 255.0), "0..1, got 255..255"),
        (np.full((4, 4, 3), np.nan), "nan"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
        (np.zeros((4, 4), object), "object"),
    ],
)
def test_arrays_that_are_no_images(array: np.ndarray, reason: str) -> None:
    with pytest.raises(ImageError, match="<array>: expected") as caught:
        load_image(array)
    assert reason in str(caught.value)


def test_sources_have_names() -> None:
    assert source_name("a/b.jpg") == "a/b.jpg"
    assert source_name(Path("a/b.jpg")) == str(Path("a/b.jpg"))
    assert source_name(b"x") == "<bytes>"
    assert source_name(io.BytesIO(b"x")) == "<file>"
    assert source_name(scene()) == "<image>"
    assert source_name(np.zeros((2, 2))) == "<array>"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "QOI"])
def test_every_format(kind: str) -> None:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {kind}")
    image = load_image(encoded(scene(48, 48), kind))
    assert image.size == (48, 48)
    assert image.format == kind


def test_heic_by_its_plugin_or_a_word_of_what_to_install() -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs pillow-heif")
    file = io.BytesIO()
    heif.from_pillow(scene(64, 48)).save(file)
    assert load_image(file.getvalue()).size == (64, 48)


def test_heic_without_its_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for brand in (b"heic", b"hevx"):
        with pytest.raises(ImageError, match=r"needs pillow-heif; install it with: pip install 'tandem-clip\[heic\]'"):
            load_image(b"\0\0\0\x18ftyp" + brand + bytes(200))


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        pixels = preprocess(load_image(content), SQUARE)
        assert np.abs(pixels.astype(int) - [255, 0, 0]).max() < 8, kind


# --- orientation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_by_default(orientation: int, kind: str) -> None:
    upright = scene(64, 48)
    stored = upright.transpose(_INVERSE[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(stored, kind, exif=exif, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
    turned = load_image(content)
    assert turned.size == (64, 48)
    assert turned.format == kind
    assert np.abs(np.asarray(turned).astype(int) - np.asarray(upright)).mean() < 8
    assert load_image(turned).size == (64, 48)  # not turned again
    # PIL turns TIFF by itself when it loads
    assert load_image(content, orient=False).size == (upright if kind == "TIFF" else stored).size


_INVERSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_spoil_the_image() -> None:
    content = encoded(scene(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\x01\x02")
    assert load_image(content).size == (60, 40)


# --- limits and damage ---------------------------------------------------------------------------------------------


def png_bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises far more pixels than its few bytes hold."""
    content = bytearray(encoded(Image.new("L", (8, 8)), "PNG"))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def test_a_bomb_is_refused_from_its_header_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=r"<bytes>: 50,000 x 40,000 pixels, more than the limit of 128,000,000"):
            load_image(png_bomb(50_000, 40_000))
        with pytest.raises(ImageError, match="12,000 x 9,000 pixels, more than the limit of 100,000,000"):
            load_image(png_bomb(12_000, 9_000), limits=Limits(max_pixels=100_000_000))


def test_a_caller_may_allow_more_than_pil_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    content = encoded(scene(100, 90), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(content).size == (100, 90)
    with pytest.raises(ImageError, match="100 x 90 pixels"):
        load_image(content, limits=Limits(max_pixels=8999))
    with pytest.raises(ImageError, match="100 x 90 pixels"):
        load_image(scene(100, 90), limits=Limits(max_pixels=8999))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_truncated_file(tmp_path: Path, kind: str) -> None:
    content = encoded(scene(200, 150), kind)
    path = tmp_path / "cut.img"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=r"cut\.img: (damaged|cannot be decoded|a damaged)") as caught:
        load_image(path)
    assert caught.value.source == str(path)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    text = tmp_path / "page.jpg"
    text.write_text("<!DOCTYPE html>\n<html><body>Not found</body></html>")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    noise = tmp_path / "noise.jpg"
    noise.write_bytes(bytes(range(128, 256)))
    film = tmp_path / "film.jpg"
    film.write_bytes(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(50))
    postscript = tmp_path / "figure.eps"
    postscript.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for path, reason in (
        (text, "not an image: a text that begins '<!DOCTYPE html> <html><body>Not '"),
        (empty, "empty: it has no bytes"),
        (noise, "not an image in a format that is read"),
        (postscript, "an EPS file"),
        (tmp_path, "a folder, not an image"),
        (film, "a film, not an image: tandem index takes films"),
        (tmp_path / "film.mp4#t=83.2", "a moment of a film, not an image: tandem index takes films"),
        (tmp_path / "missing.jpg", "no such file"),
        (text / "below.jpg", "no such file"),
        (tmp_path / ("x" * 300), "no such file"),
        (tmp_path / "nul\0.jpg", "null byte"),
    ):
        with pytest.raises(ImageError) as caught:
            load_image(path)
        assert caught.value.source == str(path)
        assert reason in caught.value.reason


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    with pytest.raises(ImageError, match="not a regular file"):
        load_image(pipe)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(scene(), "PNG"))

    def refuse(self: Path, mode: str = "r") -> io.BytesIO:  # tests may run as root, whom no file mode stops
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"secret\.png: permission denied"):
        load_image(path)


def test_too_many_bytes(tmp_path: Path) -> None:
    content = encoded(scene(), "PNG")
    path = tmp_path / "large.png"
    path.write_bytes(content)
    few = Limits(max_bytes=len(content) - 1)
    for source in (path, content, io.BytesIO(content)):
        with pytest.raises(ImageError, match="more bytes than the limit"):
            load_image(source, limits=few)
        if isinstance(source, io.BytesIO):
            source.seek(0)
        assert load_image(source, limits=Limits(max_bytes=len(content))).size == (60, 40)


def test_a_jpeg_of_many_passes_is_refused_before_it_takes_hours(tmp_path: Path) -> None:
    content = encoded(scene(), "JPEG", progressive=True)
    assert load_image(content).size == (60, 40)  # as programs write them
    last = content[content.rindex(b"\xff\xda") : -2]
    endless = content[:-2] + last * 100 + content[-2:]
    path = tmp_path / "endless.jpg"
    path.write_bytes(endless)
    for source in (path, endless, io.BytesIO(endless)):
        with pytest.raises(ImageError, match="more than 100 scans"):
            load_image(source)


@pytest.mark.parametrize("source", [None, 7, ["a.jpg"], io.StringIO("text")])
def test_what_is_no_source(source: object) -> None:
    with pytest.raises(ImageError):
        load_image(source)  # type: ignore[arg-type]


def test_any_failure_of_a_decoder_becomes_an_image_error(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(scene(), "PNG")
    for failure in (MemoryError(), OverflowError("x"), RecursionError(), ValueError("x"), EOFError(), KeyError(1)):

        def fail(*_: object, failure: BaseException = failure) -> None:
            raise failure

        with monkeypatch.context() as patch:
            patch.setattr("PIL.ImageFile.ImageFile.load", fail)
            with pytest.raises(ImageError):
                load_image(content)


def survives(content: bytes, limits: Limits) -> bool:
    """Whether it is still an image. Anything but an ImageError escapes."""
    try:
        pixels = preprocess(load_image(content, limits=limits), SQUARE)
    except ImageError:
        return False
    return pixels.shape == (32, 32, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "ICO"])
@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged metadata
def test_random_damage_gives_an_image_or_an_image_error(kind: str) -> None:
    chance = random.Random(kind)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    content = encoded(scene(64, 64), kind, **options)
    limits = Limits(max_pixels=4_000_000)
    failures = 0
    for _ in range(100):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 3, 20))):
            # as often in the header as in the body
            at = chance.randrange(chance.choice((min(64, len(damaged)), len(damaged))))
            damaged[at] = chance.randrange(256)
        if chance.random() < 0.3:
            del damaged[chance.randrange(len(damaged)) :]
        failures += not survives(bytes(damaged), limits)
    assert failures > 5  # the damage was real


def test_a_limit_beyond_all_memory_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"an image")
    assert read_bytes(tmp_path / "a.png", limits=Limits(max_bytes=2**62)) == b"an image"
