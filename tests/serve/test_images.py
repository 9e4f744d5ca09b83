"""What a request brings as an image: what is read, and what is refused."""

import asyncio
import base64
import io
import threading

import numpy as np
import pytest
from PIL import Image
from support.images import announcing
from support.reading import data_uri, encoded, read, reader, refused
from support.toy import SIZE, random_image

from tandem.config import Preprocessing
from tandem.errors import ImageError
from tandem.image import Limits, load_image, preprocess
from tandem.serve.encoding.batching import QueueFullError
from tandem.serve.encoding.images import decode_data_uri

# --- what is brought along ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_bytes_and_data_uris_give_the_pixels_that_the_library_gives(kind: str) -> None:
    content = encoded(random_image(1), kind)
    wanted = preprocess(load_image(content), Preprocessing(SIZE))
    for value in (content, data_uri(content), data_uri(content, "image/jpeg;charset=x"), data_uri(content, "")):
        pixels = read(value)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, wanted)


def test_data_uris_as_browsers_and_others_write_them() -> None:
    content = encoded(random_image(2))
    wanted = read(content)
    quoted = "data:image/png," + "".join(f"%{byte:02x}" for byte in content)
    letters = base64.b64encode(content).decode()
    wrapped = "DATA:image/png;BASE64," + "\n".join(letters[i : i + 76] for i in range(0, len(letters), 76))
    bare = "data:image/png;base64," + letters.rstrip("=")
    for value in (quoted, wrapped, bare):
        np.testing.assert_array_equal(read(value), wanted)


def test_a_photo_on_its_side_is_turned_upright_as_in_the_collection() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    random_image(3).save(file, "PNG", exif=exif)
    upright = read(file.getvalue())
    assert not np.array_equal(upright, read(file.getvalue(), orient=False))
    np.testing.assert_array_equal(upright, preprocess(load_image(file.getvalue()), Preprocessing(SIZE)))


@pytest.mark.parametrize(
    ("value", "kind", "says"),
    [
        (b"", "damaged", "empty"),
        ("", "invalid", "expected a data URI"),
        ("data:", "invalid", "expected a data URI"),
        ("data:,", "damaged", "empty"),
        ("data:image/png;base64,", "damaged", "empty"),
        ("data:image/png;base64,!!!", "damaged", "base64 is damaged"),
        ("data:image/png;base64,aaaaa", "damaged", "base64 is damaged"),
        ("data:image/png;base64,é", "damaged", "base64 is damaged"),
        ("data:image/png;base64,aGVsbG8=", "unsupported", "not an image"),
        ("data:text/html,<script>", "unsupported", "not an image"),
        ("/etc/passwd", "invalid", "paths are not read"),
        ("file:///etc/passwd", "invalid", "paths are not read"),
        ("../../secret.png", "invalid", "paths are not read"),
        ("ftp://example.org/a.png", "invalid", "paths are not read"),
        ("\x00", "invalid", "paths are not read"),
        (b"%!PS-Adobe", "unsupported", "EPS"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported", "not an image"),
        (encoded(random_image(4, (200, 150)))[:-200], "damaged", "image: "),
        (encoded(random_image(5), "JPEG")[:200], "damaged", "image: "),
        (b"x" * 100_001, "too_large", "more bytes than the limit of 100,000"),
        ("data:image/png;base64," + "a" * 140_000, "too_large", "more bytes than the limit of 100,000"),
        ("data:image/png," + "%41" * 100_010, "too_large", "more bytes than the limit of 100,000"),
        (announcing(20_000, 20_000), "too_large", "20,000 x 20,000 pixels, more than the limit of"),
        ("http://example.org/a.png", "forbidden", "not fetched here"),
        ("HTTPS://127.0.0.1/a.png", "forbidden", "not fetched here"),
    ],
)
def test_what_is_refused_and_with_which_message(value: str | bytes, kind: str, says: str) -> None:
    error = refused(value)
    assert (error.source, error.kind) == ("image", kind)
    assert says in str(error)
    assert len(str(error)) < 400


def test_percent_encoding_is_for_small_images() -> None:
    """31 MB of %41 took gigabytes."""
    limits = Limits(max_bytes=64 * 2**20)
    assert len(decode_data_uri("data:image/png," + "a" * 2**20, "image", limits)) == 2**20
    with pytest.raises(ImageError, match="percent-encoding, of more than 1,048,576 characters: send base64") as caught:
        decode_data_uri("data:image/png," + "a" * (2**20 + 1), "image", limits)
    assert caught.value.kind == "too_large"


def test_a_jpeg_of_many_passes_is_refused_before_it_takes_hours() -> None:
    file = io.BytesIO()
    random_image(1).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    read(content)  # as programs write them
    last = content[content.rindex(b"\xff\xda") : -2]
    assert "more than 100 scans" in refused(content[:-2] + last * 100 + content[-2:]).reason


def test_a_file_that_exists_is_not_read_by_its_name(tmp_path: object) -> None:
    file = f"{tmp_path}/there.png"
    random_image(1).save(file)
    assert "paths are not read" in refused(file).reason


def test_several_are_read_in_order_and_a_bad_one_stands_in_its_place() -> None:
    contents = [encoded(random_image(i)) for i in range(5)]

    async def both() -> list[object]:
        with reader() as images:
            return list(await images.read_images([contents[0], b"bad", *contents[1:]]))

    read_, bad, *others = asyncio.run(both())
    assert isinstance(bad, ImageError)
    assert (bad.source, bad.kind) == ("images[1]", "unsupported")
    for pixels, content in zip([read_, *others], contents, strict=True):
        np.testing.assert_array_equal(pixels, read(content))  # type: ignore[arg-type]


def test_bytes_to_keep_are_the_very_bytes_and_known_to_be_an_image() -> None:
    content = encoded(random_image(1))

    async def kept(value: str | bytes) -> tuple[bytes, str]:
        with reader() as images:
            return await images.read_encoded(value)

    assert asyncio.run(kept(data_uri(content))) == (content, "PNG")
    with pytest.raises(ImageError):
        asyncio.run(kept(content[:-60]))


def test_a_full_queue_is_503_and_nothing_stays_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    content = encoded(random_image(1))

    def slow(*arguments: object) -> np.ndarray:
        assert gate.wait(20)
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr("tandem.image.preprocess", slow)

    async def crowd() -> None:
        with reader(queue=3, threads=1) as images:
            inside = [asyncio.create_task(images.read_image(content)) for _ in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError):
                await images.read_image(content)
            inside[2].cancel()  # a client that left makes room
            await asyncio.sleep(0.01)
            assert images.pending == 2
            gate.set()
            await asyncio.gather(inside[0], inside[1])
            assert images.pending == 0
            assert len(await images.read_images([content] * 9)) == 9  # larger than the queue, but alone

    asyncio.run(crowd())
