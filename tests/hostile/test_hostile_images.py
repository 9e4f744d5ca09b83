"""Images that would cost far more than they seem to: refused in one line, or read without what is unbounded in them.

Each is decoded in a process of its own, whose memory and processor time are limited.
"""

import contextlib
import io
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from support import toy
from support.bounded import bounded
from support.hostile_images import LARGE, READ, REFUSED, bmp, encoded
from support.processes import COMMANDS

from tandem.decoding import process
from tandem.decoding.budget import Budget
from tandem.decoding.cost import slow_format
from tandem.errors import ImageError
from tandem.image import Limits, load_image

MEGABYTES = 300
SERVER_BYTES = 384_000_000  # that a server lets the decoding of one image take
IMPORTED = ("tandem.image", "tandem.decoding.process")


SLOW = ("a BMP of empty runs", "a JPEG 2000 of many markers", "a JPEG 2000 of many boxes", "a WebP of many pixels")


@pytest.mark.slow_if(*SLOW)
@pytest.mark.parametrize("name", [*REFUSED, *LARGE])
def test_what_costs_more_than_it_promises_is_refused(name: str, tmp_path: Path) -> None:
    make, words = (REFUSED | LARGE)[name]
    path = tmp_path / "image"
    path.write_bytes(make())
    outcome = bounded("support.hostile_images:load", str(path), str(SERVER_BYTES), imported=IMPORTED)
    assert outcome.kind == "ImageError"
    assert outcome.error is not None
    assert outcome.error.startswith(f"{path}: ")
    assert re.search(words, outcome.error)
    assert "\n" not in outcome.error
    assert outcome.megabytes < MEGABYTES


@pytest.mark.parametrize("name", READ)
def test_unbounded_metadata_is_left_aside(name: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(READ[name]())
    outcome = bounded("support.hostile_images:load", str(path), str(SERVER_BYTES), imported=IMPORTED)
    assert outcome.error is None
    assert outcome.result[1:] in ([64, 48], [40, 30], [30, 40])
    assert outcome.megabytes < MEGABYTES


@pytest.mark.slow
def test_a_folder_of_all_of_them_is_indexed_in_a_gigabyte(tmp_path: Path) -> None:
    """In 2 threads; beside them an image as large as a phone's, which is read."""
    images = tmp_path / "images"
    images.mkdir()
    for i, make in enumerate([*(each for each, _ in REFUSED.values()), *READ.values()]):
        (images / f"{i:02}.png").write_bytes(make())
    (images / "photo.jpg").write_bytes(encoded("JPEG", (12_000, 9_000)))
    model = toy.folder(tmp_path / "model")
    folders = [str(images), str(model), str(tmp_path / "a.tandem")]
    outcome = bounded("support.hostile_images:index", *folders, imported=COMMANDS, gigabytes=16, seconds=60)
    added, skipped, megabytes = outcome.result
    assert (added, skipped) == (len(READ) + 1, len(REFUSED))
    assert megabytes < 1000


# --- formats whose decoders are stoppable ----------------------------------------------------------------------------


def _runs() -> bytes:
    return bmp(40, 30, 1, b"".join(bytes((40, row)) + b"\0\0" for row in range(30)) + b"\0\1")


def _slow_images() -> dict[str, bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)

    def saved(kind: str, image: Image.Image) -> bytes:
        file = io.BytesIO()
        image.save(file, kind)
        return file.getvalue()

    rgb = Image.fromarray(noise)
    return {
        "QOI": saved("QOI", rgb),
        "QOI RGBA": saved("QOI", rgb.convert("RGBA")),
        "JPEG 2000": saved("JPEG2000", rgb),
        "JPEG 2000 grey": saved("JPEG2000", rgb.convert("L")),
        "PPM": b"P3 40 30 255\n" + b" ".join(b"%d" % value for value in noise.ravel()),
        "PPM grey of 16 bits": b"P2 40 30 65535 " + b" ".join(b"%d" % value for value in noise[:, :, 0].ravel()),
        "PBM": b"P1 40 30\n" + b" ".join(b"%d" % (value & 1) for value in noise[:, :, 0].ravel()),
        "PPM to 99": b"P6 # said here\n40 30 99\n" + (noise % 100).tobytes(),
        "BMP": _runs(),
    }


@pytest.mark.parametrize("name", _slow_images())
def test_slow_formats_are_decoded_bit_by_bit_as_pillow_does(name: str) -> None:
    content = _slow_images()[name]
    theirs = Image.open(io.BytesIO(content))
    ours = load_image(content)
    assert slow_format(content[:512]) is not None
    assert (ours.mode, ours.size, ours.format) == (theirs.mode, theirs.size, theirs.format)
    assert ours.tobytes() == theirs.tobytes()
    assert ours.getpalette() == theirs.getpalette()


def test_ordinary_formats_need_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "decode", None)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "ICO", "DIB"):
        assert load_image(encoded(kind, (16, 16))).size == (16, 16)


def test_slow_formats_can_be_turned_off() -> None:
    for content in _slow_images().values():
        with pytest.raises(ImageError, match="takes too long; send JPEG, PNG or WebP") as caught:
            load_image(content, limits=Limits(slow_formats=False))
        assert caught.value.kind == "unsupported"
    assert load_image(encoded("PNG"), limits=Limits(slow_formats=False)).size == (40, 30)


def test_a_damaged_slow_image_and_the_next_one() -> None:
    """The process that met damage, or was killed, is followed by one that works."""
    good = _slow_images()["QOI"]
    for bad in (good[:30], b"qoif", b"P3 4 4 255 1 2 x", b"\xff\x4f\xff\x51" + bytes(60), b"P1 0 5\n", good[:14]):
        with pytest.raises(ImageError) as caught:
            load_image(bad)
        assert caught.value.kind == "damaged"
        assert load_image(good).size == (40, 30)
    for each in process._idle:
        each._popen.kill()
        each._popen.wait()
    assert load_image(good).size == (40, 30)


def test_limits_of_time_and_memory_are_the_callers() -> None:
    content = _slow_images()["QOI"]
    with pytest.raises(ImageError, match=r"the limit is 0\.001 s"):
        load_image(content, limits=Limits(decode_s=0.001))
    with pytest.raises(ImageError, match="more than the limit of 1,000"):
        load_image(content, limits=Limits(max_pixels=1000))
    small = Limits(max_pixels=1200, max_decoded_bytes=1200 * 6)
    with pytest.raises(ImageError, match=r"40 x 30 pixels of WEBP \(RGB\) take .*\(max_decoded_bytes\)"):
        load_image(encoded("WEBP"), limits=small)
    assert load_image(encoded("JPEG"), limits=small).size == (40, 30)


@pytest.mark.parametrize("where", ["JPEG", "PNG", "PNG, behind its pixels"])
def test_the_copy_that_turns_an_image_counts(where: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    toy.random_image(1, size=(40, 30)).save(file, where[:4].strip(","), exif=exif)
    content = file.getvalue()
    if "behind" in where:
        at = content.index(b"eXIf") - 4
        size = 12 + int.from_bytes(content[at : at + 4])
        end = content.index(b"IEND") - 4
        content = content[:at] + content[at + size : end] + content[at : at + size] + content[end:]
    once = 4 * 40 * 30
    with pytest.raises(ImageError, match=r"40 x 30 pixels of \w+ \(RGB\) take"):
        load_image(content, limits=Limits(max_decoded_bytes=2 * once - 1))
    assert load_image(content, limits=Limits(max_decoded_bytes=2 * once)).size == (30, 40)
    assert load_image(content, limits=Limits(max_decoded_bytes=once), orient=False).size == (40, 30)


# --- memory in flight ----------------------------------------------------------------------------------------------


def _waiting(budget: Budget, count: int) -> None:
    end = time.monotonic() + 20
    while len(budget._waiting) < count:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_the_budget_holds_bytes_not_threads() -> None:
    """As many as fit go on together; the next one waits for exactly so much to be given back."""
    budget, seen = Budget(100), []
    with contextlib.ExitStack() as held:
        first = held.enter_context(contextlib.ExitStack())
        threads = [threading.Thread(target=_hold, args=(budget, 30, seen, first)) for _ in range(3)]
        for each in threads:
            each.start()
            each.join(20)
        assert budget.in_flight == 90
        waiting = [threading.Thread(target=_record, args=(budget, count, seen)) for count in (11, 10)]
        for number, each in enumerate(waiting, 1):
            each.start()
            _waiting(budget, number)  # 101 are too many; 100 are not, but came later
        assert (budget.in_flight, seen) == (90, [30, 60, 90])
    for each in waiting:
        each.join(20)
    assert seen[3] == 11
    assert seen[4] in (10, 21)
    assert budget.in_flight == 0


def test_as_much_as_there_is_does_not_wait() -> None:
    budget, seen = Budget(100), []
    with contextlib.ExitStack() as first:
        holder = threading.Thread(target=_hold, args=(budget, 90, seen, first))
        holder.start()
        holder.join(20)
        other = threading.Thread(target=_record, args=(budget, 10, seen))
        other.start()
        other.join(20)
        assert seen == [90, 100]


def test_a_thread_does_not_wait_for_its_own_bytes() -> None:
    budget, done = Budget(100), []

    def work() -> None:
        with budget.take(90), budget.take(90):
            done.append(budget.in_flight)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert done == [180]


def test_what_is_larger_than_the_budget_is_alone() -> None:
    budget, seen = Budget(100), []
    with budget.take(60):
        large = threading.Thread(target=_record, args=(budget, 500, seen))
        large.start()
        _waiting(budget, 1)
        small = threading.Thread(target=_record, args=(budget, 10, seen))  # which came later
        small.start()
        _waiting(budget, 2)
        assert (budget.in_flight, seen) == (60, [])
    large.join(20)
    small.join(20)
    assert seen == [500, 10]


def _hold(budget: Budget, count: int, seen: list[int], until: contextlib.ExitStack) -> None:
    until.enter_context(budget.take(count))
    seen.append(budget.in_flight)


def _record(budget: Budget, count: int, seen: list[int]) -> None:
    with budget.take(count):
        seen.append(budget.in_flight)


def test_grey_images_of_many_bits_are_converted_a_few_rows_at_a_time() -> None:
    import tracemalloc

    from tandem.pixels import as_rgb

    for mode in ("F", "I", "I;16"):
        image = Image.new(mode, (2000, 1500), 7)
        tracemalloc.start()
        as_rgb(image)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * 2000 * 1500, mode  # one byte a pixel, and the rows
