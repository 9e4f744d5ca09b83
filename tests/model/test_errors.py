"""Errors survive pickling and copying, name a near word, and an image's error says of which kind it is."""

import copy
import inspect
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tandem import errors, fetch
from tandem.errors import FilterError, ImageError, MissingExtraError, ServerError, TandemError, did_you_mean
from tandem.image import Limits, load_image

EXAMPLES: list[TandemError] = [
    ImageError("a.jpg", "no such file", "not_found"),
    FilterError("expected a column", 3),
    MissingExtraError("matplotlib", "plot", "drawing"),
    ServerError(413, "Too large", "more than 8 MB", {"failures": []}),
]


def all_kinds() -> set[type[TandemError]]:
    found = {each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, TandemError)}
    return found - {type(example) for example in EXAMPLES}


@pytest.mark.parametrize("error", [*EXAMPLES, *(kind("a message") for kind in sorted(all_kinds(), key=str))], ids=repr)
def test_errors_can_be_pickled_and_copied(error: TandemError) -> None:
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert vars(other) == vars(error)


def test_did_you_mean() -> None:
    assert did_you_mean("lables", ["layers", "labels"]) == "; did you mean 'labels'?"
    assert did_you_mean("vit-b/32", ["ViT-B/32"]) == "; did you mean 'ViT-B/32'?"
    assert did_you_mean("zebra", ["layers", "labels"]) == ""
    assert did_you_mean("", []) == ""
    assert did_you_mean("--limit", ["--plot"]) == ""  # alike by their dashes alone


def png(size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("nowhere/at/all.jpg", "not_found"),
        ("n" * 5000, "not_found"),
        (Path("."), "invalid"),
        (b"", "damaged"),
        (b"hello, this is a text and nothing else", "unsupported"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 40, "unsupported"),
        (png((90, 90))[:-60], "damaged"),
        (png((200, 100)), "too_large"),
        (np.zeros((3, 3, 7), np.uint8), "invalid"),
        (np.full((3, 3), 4.0), "invalid"),
        (12, "invalid"),
        (io.StringIO("text"), "invalid"),
        ("http://127.0.0.1:9/a.jpg", "forbidden"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_kinds(source: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.image._bring_plugins", lambda brand: None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(ImageError) as caught:
        load_image(source, limits=Limits(max_pixels=10_000, allow_urls=False))
    assert caught.value.kind == kind


def test_kinds_of_addresses() -> None:
    with pytest.raises(ImageError) as caught:
        fetch.fetch("http://127.0.0.1:9/a.jpg", max_bytes=10, timeout_s=5)
    assert caught.value.kind == "not_found"


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(png())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match="permission denied") as caught:
        load_image(path)
    assert caught.value.kind == "forbidden"


def test_an_error_renewed_has_no_trace() -> None:
    with pytest.raises(ImageError) as caught:
        load_image(b"")
    new = caught.value.renewed("cat.jpg")
    assert (new.source, new.reason, new.kind, new.__traceback__) == ("cat.jpg", caught.value.reason, "damaged", None)
