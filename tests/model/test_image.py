"""Pictures in: the original's pixels bit for bit, every kind of source and mode, and nothing but ImageError."""

import contextlib
import errno
import hashlib
import io
import json
import os
import random
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tandem.config import Preprocessing
from tandem.errors import ImageError
from tandem.image import Limits, decode_stream, load_image, preprocess, source_name
from tandem.pixels import _shortest

SQUARE = Preprocessing(32)


def scene(width: int = 60, height: int = 40, mode: str = "RGB") -> Image.Image:
    """A picture that is neither flat nor symmetric."""
    y, x = np.mgrid[0:height, 0:width]
    array = (
        np.stack([x * 255 // width, y * 255 // height, np.hypot(x - width / 3, y - height / 3) * 3], axis=2)
        .clip(0, 255)
        .astype(np.uint8)
    )
    return Image.fromarray(array).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def photos() -> dict[str, Image.Image]:
    data = pytest.importorskip("skimage.data", reason="needs scikit-image's sample photos")
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn's sample photos")
    try:
        arrays = {name: getattr(data, name)() for name in ("chelsea", "astronaut", "coffee", "rocket")}
    except Exception as error:  # scikit-image downloads some
        pytest.skip(f"needs scikit-image's sample photos: {error}")
    arrays |= {name: datasets.load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    return {name: Image.fromarray(array) for name, array in arrays.items()}


VARIANTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "": lambda im: im,
    "tall": lambda im: im.crop((37, 0, 37 + im.height // 3, im.height)),
    "small": lambda im: im.resize((97, 61), Image.Resampling.BILINEAR),
    "gray": lambda im: im.convert("L"),
    "palette": lambda im: im.convert("P"),
}


def test_the_originals_pixels_bit_for_bit(shared: Path, photos: dict[str, Image.Image]) -> None:
    golden = json.loads((shared / "golden" / "preprocess.json").read_text())
    assert len(golden) == 30
    wrong = []
    for key, expected in golden.items():
        photo, _, variant = key.partition("-")
        pixels = preprocess(load_image(VARIANTS[variant](photos[photo])), Preprocessing(224))
        if hashlib.sha256(pixels.tobytes()).hexdigest() != expected:
            wrong.append(key)
    assert wrong == []


# --- resizing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest", "lanczos"])
@pytest.mark.parametrize("size", [(60, 40), (40, 61), (32, 32), (1, 1), (7, 300), (1, 10_000), (10_000, 1)])
def test_every_shape_becomes_a_square(mode: str, interpolation: str, size: tuple[int, int]) -> None:
    preprocessing = Preprocessing(32, resize_mode=mode, interpolation=interpolation)  # type: ignore[arg-type]
    pixels = preprocess(scene(*size), preprocessing)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable


def test_shortest_keeps_the_centre_and_longest_keeps_all() -> None:
    image = Image.new("RGB", (90, 30), "red")
    image.paste("blue", (30, 0, 60, 30))
    centre = preprocess(image, Preprocessing(30))
    assert (centre == [0, 0, 255]).all()
    whole = preprocess(image, Preprocessing(30, resize_mode="longest", interpolation="nearest", fill=7))
    assert (whole[:10] == 7).all()
    assert (whole[20:] == 7).all()
    assert whole[15, [5, 15, 25]].tolist() == [[255, 0, 0], [0, 0, 255], [255, 0, 0]]
    squashed = preprocess(image, Preprocessing(30, resize_mode="squash", interpolation="nearest"))
    assert squashed[15, [5, 15, 25]].tolist() == [[255, 0, 0], [0, 0, 255], [255, 0, 0]]


@pytest.mark.parametrize("turned", [False, True])
def test_a_ribbon_gets_the_same_pixels_without_the_picture_that_is_mostly_cropped(
    monkeypatch: pytest.MonkeyPatch, turned: bool
) -> None:
    ribbon = scene(1501, 23)
    ribbon = ribbon.transpose(Image.Transpose.ROTATE_90) if turned else ribbon
    direct = np.asarray(_shortest(ribbon, 64, Image.Resampling.BICUBIC), np.int16)
    monkeypatch.setattr("tandem.pixels._LONGEST_ASPECT", 1000)
    whole = np.asarray(_shortest(ribbon, 64, Image.Resampling.BICUBIC), np.int16)
    difference = np.abs(direct - whole)
    # PIL may filter rows and columns in another order, and clips overshoot at hard edges between the two
    assert difference.max() <= 24
    assert difference.mean() <= 0.1


# --- modes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "La", "RGBa", "RGBX"]
)
def test_every_mode(mode: str) -> None:
    if mode == "LAB":
        image = Image.merge("LAB", [Image.new("L", (60, 40), value) for value in (128, 128, 128)])  # a middle grey
    elif mode in ("La", "RGBa"):
        image = scene(mode={"La": "LA", "RGBa": "RGBA"}[mode]).convert(mode)
    else:
        image = scene(mode=mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = preprocess(load_image(image), SQUARE)
    expected = preprocess(scene(mode="L" if mode in ("1", "L", "LA", "La") else "RGB"), SQUARE)
    if mode == "LAB":
        expected = np.full_like(expected, 119)
    if mode == "1":  # black and white dots: right on the whole
        pixels, expected = pixels.mean(keepdims=True), expected.mean(keepdims=True)
    # 256 colours, and hues that are averaged across red, differ in places
    tolerance = {"1": 8, "P": 20, "PA": 30, "HSV": 10}.get(mode, 2)
    assert np.abs(pixels.astype(int) - expected.astype(int)).mean() <= tolerance


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_sixteen_bits_are_scaled_not_clipped(mode: str) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    dtype = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]
    deep = (grey.astype(np.uint32) * 257).astype(dtype)
    image = Image.frombytes(mode, (16, 16), deep.tobytes())
    assert (preprocess(image, Preprocessing(16))[:, :, 0] == grey).all()


def test_a_sixteen_bit_png_file() -> None:
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    pixels = preprocess(load_image(encoded(Image.fromarray(deep), "PNG")), Preprocessing(16))
    assert pixels[:, :, 1].ravel().tolist() == list(range(256))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 255.0), (-3.0, 9000.0)])
def test_floats_fill_the_range(low: float, high: float) -> None:
    values = np.linspace(low, high, 256, dtype=np.float32).reshape(16, 16)
    pixels = preprocess(Image.fromarray(values), Preprocessing(16))
    assert pixels[0, 0, 0] == 0
    assert pixels[-1, -1, 0] == 255
    assert (np.diff(pixels[:, :, 0].ravel().astype(int)) >= 0).all()


def test_floats_with_holes_and_flat_ones_are_pictures_too() -> None:
    values = np.full((8, 8), np.nan, np.float32)
    assert preprocess(Image.fromarray(values), SQUARE).max() == 0
    assert preprocess(Image.fromarray(np.full((8, 8), 7000, np.float32)), SQUARE).shape == (32, 32, 3)


def test_the_picture_handed_in_is_left_as_it_is() -> None:
    image = scene(mode="P")
    image.info["transparency"] = b"\0" * 256
    preprocess(image, Preprocessing(40, resize_mode="longest"))
    preprocess(image, SQUARE)
    assert image.info["transparency"] == b"\0" * 256
    assert image.mode == "P"


# --- sources -------------------------------------------------------------------------------------------------------


def test_every_kind_of_source_gives_the_same_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_arrays_that_are_no_pictures(array: np.ndarray, reason: str) -> None:
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
def test_upright_by_exif_unless_told_otherwise(orientation: int, kind: str) -> None:
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
def test_damaged_exif_does_not_spoil_the_picture() -> None:
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


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    text = tmp_path / "page.jpg"
    text.write_text("<!DOCTYPE html>\n<html><body>Not found</body></html>")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    noise = tmp_path / "noise.jpg"
    noise.write_bytes(bytes(range(128, 256)))
    postscript = tmp_path / "figure.eps"
    postscript.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for path, reason in (
        (text, "not a picture: a text that begins '<!DOCTYPE html> <html><body>Not '"),
        (empty, "empty: it has no bytes"),
        (noise, "not a picture in a format that is read"),
        (postscript, "an EPS file"),
        (tmp_path, "a folder, not a picture"),
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
    """Whether it is still a picture. Anything but an ImageError escapes."""
    try:
        pixels = preprocess(load_image(content, limits=limits), SQUARE)
    except ImageError:
        return False
    return pixels.shape == (32, 32, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "ICO"])
@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged metadata
def test_random_damage_gives_a_picture_or_an_image_error(kind: str) -> None:
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


# --- http ----------------------------------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = encoded(scene(), "PNG")
        if self.path.startswith("/redirect"):
            left = int(self.path.split("/")[2])
            self.send_response(302)
            self.send_header("location", f"/redirect/{left - 1}" if left else "/scene.png")
            self.end_headers()
        elif self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("location", "file:///etc/passwd")
            self.end_headers()
        elif self.path == "/large":
            self.send_response(200)
            self.send_header("content-length", str(10**12))
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(65536))
        elif self.path in ("/slow", "/silent"):
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(40):
                    if self.path == "/slow":
                        self.wfile.write(b"x")
                    time.sleep(0.05)
        elif self.path == "/missing":
            self.send_error(404)
        elif self.path == "/page":
            self.send_response(200)
            self.send_header("content-type", "image/png")
            self.end_headers()
            self.wfile.write(b"<html>not a picture at all, though the header says so</html>")
        else:
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_picture_from_an_address(site: str) -> None:
    for path in ("/scene.png", "/redirect/2"):
        assert (np.asarray(load_image(site + path)) == np.asarray(scene())).all()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/missing", "404"),
        ("/redirect/20", "redirects"),
        ("/elsewhere", "no http"),
        ("/large", "1,000,000,000,000 bytes, more than the limit"),
        ("/endless", "more bytes than the limit"),
        ("/slow", "time limit"),
        ("/silent", "no answer within"),
        ("/page", "not a picture: a text that begins '<html>"),
    ],
)
def test_an_address_that_gives_none(site: str, path: str, reason: str) -> None:
    limits = Limits(max_bytes=2_000_000, timeout_s=0.6)
    with pytest.raises(ImageError) as caught:
        load_image(site + path, limits=limits)
    assert caught.value.source == site + path
    assert reason in caught.value.reason


def test_addresses_can_be_forbidden_and_unreachable(site: str) -> None:
    with pytest.raises(ImageError, match="not fetched here"):
        load_image(site + "/scene.png", limits=Limits(allow_urls=False))
    for address in ("http://127.0.0.1:9/x.png", "http://[broken/x.png"):
        with pytest.raises(ImageError, match="cannot be fetched"):
            load_image(address)


# --- streams -------------------------------------------------------------------------------------------------------


def test_a_stream_keeps_the_order_and_sets_failures_aside() -> None:
    good = encoded(scene(), "PNG")
    sources = [good, b"", good, "missing.jpg", good] * 7
    results = list(decode_stream(sources, SQUARE, threads=3, ahead=4))
    assert [i for i, _ in results] == list(range(35))
    expected = preprocess(scene(), SQUARE)
    for i, result in results:
        if i % 5 in (1, 3):
            assert isinstance(result, ImageError)
            assert result.source == ("<bytes>" if i % 5 == 1 else "missing.jpg")
        else:
            assert isinstance(result, np.ndarray)
            assert (result == expected).all()


def test_a_stream_draws_lazily_and_within_bounds() -> None:
    drawn = 0

    def endless() -> Iterator[Image.Image]:
        nonlocal drawn
        while True:
            drawn += 1
            yield scene(8, 8)

    stream = decode_stream(endless(), SQUARE, threads=2, ahead=10)
    assert drawn == 0
    next(stream)
    assert drawn <= 4
    for given in range(2, 60):
        next(stream)
        assert drawn - given <= 10
    assert drawn >= 60
    stream.close()  # type: ignore[attr-defined]


def test_closing_a_stream_ends_its_threads() -> None:
    before = set(threading.enumerate())
    stream = decode_stream((scene() for _ in range(1000)), SQUARE, threads=4)
    next(stream)
    assert set(threading.enumerate()) - before
    stream.close()  # type: ignore[attr-defined]
    assert not set(threading.enumerate()) - before


def test_what_came_before_broken_sources_is_given_first() -> None:
    def sources() -> Iterator[Image.Image]:
        yield scene()
        yield scene()
        raise RuntimeError("the list ends in the middle")

    stream = decode_stream(sources(), SQUARE, threads=1)
    assert [next(stream)[0], next(stream)[0]] == [0, 1]
    with pytest.raises(RuntimeError, match="in the middle"):
        next(stream)


def test_an_empty_stream() -> None:
    assert list(decode_stream([], SQUARE)) == []
