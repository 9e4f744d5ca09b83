"""Karpathy's splits of captions: a JSON file (`dataset_coco.json`, `dataset_flickr30k.json`) beside its images.

`{"images": [{"filename", "filepath", "split", "sentences": [{"raw"}]}]}`. Retrieval is usually reported on `test`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tandem.datasets import split_names
from tandem.datasets.images import ImageFiles, existing, full_path
from tandem.datasets.rows import Request, Rows
from tandem.errors import DataError
from tandem.files import user_path

_HEAD = 1 << 16  # bytes that are looked at: the whole file has over 100 MB


def recognises(source: str) -> bool:
    """Whether it is a JSON file whose beginning has the keys of this layout."""
    path = user_path(source, strict=False)
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return b'"sentences"' in head and b'"filename"' in head


def splits(source: str) -> tuple[str, ...]:
    """The splits that images are in."""
    return tuple(_by_split(user_path(source)))


def read(request: Request) -> Rows:
    """The images of a split, in the order of the file. Raises `DataError` that names an image."""
    if request.where is not None:
        raise DataError(f"{request.source}: this layout has no columns for where")
    path = user_path(request.source)
    split, images = split_names.choose(_by_split(path), request.split, request.source)
    names = ["/".join(filter(None, (image.get("filepath"), str(image["filename"])))) for image in images]
    folder = next((each for each in (path.parent, path.parent / "images") if (each / names[0]).is_file()), path.parent)
    return Rows(
        name=full_path(path).stem.removeprefix("dataset_"),
        keys=names,
        images=ImageFiles([existing(str(folder / name), str(path)) for name in names]),
        captions=[_captions(image, path) for image in images],
        split=split,
    )


def _by_split(path: Path) -> dict[str, list[Mapping[str, Any]]]:
    try:
        images = json.loads(path.read_text(encoding="utf-8-sig"))["images"]
        found: dict[str, list[Mapping[str, Any]]] = {}
        for image in images:
            found.setdefault(str(image["split"]), []).append(image)
            _ = image["filename"], image["sentences"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected images with filename, split and sentences: {error!r}") from None
    return found


def _captions(image: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    try:
        return tuple(text for sentence in image["sentences"] if (text := str(sentence["raw"]).strip()))
    except (KeyError, TypeError):
        raise DataError(f"{path}, {image['filename']}: expected sentences with raw") from None
