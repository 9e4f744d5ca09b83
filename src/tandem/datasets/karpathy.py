"""Karpathy's splits of captions: a JSON file (`dataset_coco.json`, `dataset_flickr30k.json`) beside its images.

`{"images": [{"filename", "filepath", "split", "sentences": [{"raw"}]}]}`. Retrieval is usually reported on `test`.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tandem.datasets import split_names
from tandem.datasets.data_files import existing, in_line, inside, read_text, shown
from tandem.datasets.images import ImageFiles, full_path
from tandem.datasets.rows import Request, Rows
from tandem.errors import DataError, in_words
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
    names = [_name(image, path) for image in images]
    folder = next(
        (each for each in (path.parent, path.parent / "images") if os.path.isfile(each / names[0])), path.parent
    )
    return Rows(
        name=full_path(path).stem.removeprefix("dataset_"),
        keys=names,
        images=ImageFiles([existing(str(folder / name), str(path)) for name in names]),
        captions=[_captions(image, path) for image in images],
        split=split,
    )


def _by_split(path: Path) -> dict[str, list[Mapping[str, Any]]]:
    try:
        images = json.loads(read_text(path))["images"]
        found: dict[str, list[Mapping[str, Any]]] = {}
        for image in images:
            if not isinstance(image["split"], str):
                raise DataError(f"{path}: expected the name of a split, found {shown(image['split'])}")
            found.setdefault(image["split"], []).append(image)
            _ = image["filename"], image["sentences"]
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {in_words(error)}") from None
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: expected images with filename, split and sentences: {shown(error)}") from None
    return found


def _name(image: Mapping[str, Any], path: Path) -> str:
    """The path of an image. Raises `DataError` where it is none, or leads out of the folder."""
    parts = [image[key] for key in ("filepath", "filename") if image.get(key)]
    for part in parts:
        if not isinstance(part, str):
            raise DataError(f"{path}: expected the path of an image as text, found {shown(part)}")
    return inside("/".join(parts), str(path))


def _captions(image: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    place = f"{path}, {in_line(image['filename'])}"
    sentences = image["sentences"]
    if not isinstance(sentences, list) or not all(isinstance(each, dict) and "raw" in each for each in sentences):
        raise DataError(f"{place}: expected sentences with raw")
    for sentence in sentences:
        if not isinstance(sentence["raw"], str):
            raise DataError(f"{place}: expected a caption as text, found {shown(sentence['raw'])}")
    return tuple(text for sentence in sentences if (text := sentence["raw"].strip()))
