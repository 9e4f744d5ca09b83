"""COCO's annotations: a JSON file with `images` and `annotations`, beside the folder of its images.

Annotations with a `caption` are captions; annotations with a `category_id` are labels, of which an image has several or
none. A folder with `annotations/captions_val2017.json` is a data set with splits.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tandem.datasets import split_names
from tandem.datasets.data_files import existing, inside, read_text, shown
from tandem.datasets.images import ImageFiles, full_path
from tandem.datasets.rows import Label, Request, Rows
from tandem.errors import DataError, in_words
from tandem.files import user_path

_PREFIX = "captions_"
_IDS = {"id", "image_id", "category_id"}


def recognises(source: str) -> bool:
    """Whether it is a JSON file of COCO's, or a folder with such files of captions."""
    path = user_path(source, strict=False)
    if path.is_dir():
        return bool(_files(path))
    return path.suffix.lower() == ".json" and path.is_file()


def splits(source: str) -> tuple[str, ...]:
    """The splits of a folder's files of captions."""
    return tuple(_files(user_path(source)))


def read(request: Request) -> Rows:
    """The images, in the order of their file names. Raises `DataError` that names an image."""
    if request.where is not None:
        raise DataError(f"{request.source}: COCO's annotations have no columns for where")
    path = user_path(request.source)
    split: str | None
    if path.is_dir():
        split, path = split_names.choose(_files(path), request.split, request.source)
    else:
        split = path.stem.removeprefix(_PREFIX).removeprefix("instances_")
        if split_names.is_split(split):
            split_names.choose({split: path}, request.split, request.source)
        else:
            split_names.refuse(request.split, request.source)
            split = None
    document = _document(path)
    named = [
        (inside(image["file_name"], f"{path}: image {shown(image['id'])}"), image["id"])
        for image in _entries(document, "images", path, ("id", "file_name"))
    ]
    images = sorted(named, key=lambda each: each[0])
    keys = [name for name, _ in images]
    annotations = list(_entries(document, "annotations", path, ("image_id",)))
    by_image: dict[Any, list[Mapping[str, Any]]] = {id: [] for _, id in images}
    if len(by_image) < len(images):
        raise DataError(f"{path}: two images have one id")
    for annotation in annotations:
        if annotation["image_id"] not in by_image:
            raise DataError(
                f"{path}: an annotation is about image {shown(annotation['image_id'])}, which is not in images"
            )
        by_image[annotation["image_id"]].append(annotation)
    has_labels = any("category_id" in annotation for annotation in annotations)
    key = request.caption or "caption"
    captions = [_captions(by_image[id], key) for _, id in images]
    folder = _image_folder(path, split, keys)
    return Rows(
        name=full_path(path.parent.parent if path.parent.name == "annotations" else path.parent).name,
        keys=keys,
        images=ImageFiles([str(folder / name) for name in keys]),
        labels=[_labels(by_image[id]) for _, id in images] if has_labels else None,
        captions=captions if any(captions) else None,
        split=split,
        class_names=_categories(document, path) if has_labels else None,
        multi_label=has_labels,
    )


def _files(folder: Path) -> dict[str, Path]:
    found = sorted([*folder.glob(f"annotations/{_PREFIX}*.json"), *folder.glob(f"{_PREFIX}*.json")])
    return {path.stem.removeprefix(_PREFIX): path for path in found}


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {in_words(error)}") from None
    if not isinstance(document, dict) or not {"images", "annotations"} <= document.keys():
        raise DataError(f'{path}: expected COCO\'s layout, {{"images": [...], "annotations": [...]}}')
    return document


def _entries(
    document: Mapping[str, Any], name: str, path: Path, needed: tuple[str, ...]
) -> Iterator[Mapping[str, Any]]:
    entries = document[name]
    if not isinstance(entries, list):
        raise DataError(f"{path}: expected a list in {name}")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or any(key not in entry for key in needed):
            raise DataError(f"{path}: {name}[{number}]: expected {' and '.join(needed)}, found {shown(entry)}")
        for key in entry.keys() & _IDS:
            if isinstance(entry[key], bool) or not isinstance(entry[key], int | str):
                raise DataError(f"{path}: {name}[{number}]: expected a number as {key}, found {shown(entry[key])}")
        yield entry


def _captions(annotations: list[Mapping[str, Any]], key: str) -> tuple[str, ...]:
    texts = (annotation.get(key) for annotation in annotations)
    return tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())


def _labels(annotations: list[Mapping[str, Any]]) -> tuple[Label, ...]:
    return tuple(
        str(label) for label in dict.fromkeys(each["category_id"] for each in annotations if "category_id" in each)
    )


def _categories(document: Mapping[str, Any], path: Path) -> dict[str, str]:
    if "categories" not in document:
        raise DataError(f"{path}: annotations have a category_id, but there are no categories")
    found: dict[str, str] = {}
    for each in _entries(document, "categories", path, ("id", "name")):
        if not isinstance(each["name"], str):
            raise DataError(f"{path}: category {shown(each['id'])}: expected a name, found {shown(each['name'])}")
        if str(each["id"]) in found:
            raise DataError(f"{path}: two categories have the id {shown(each['id'])}")
        found[str(each["id"])] = each["name"]
    return found


def _image_folder(path: Path, split: str | None, names: list[str]) -> Path:
    """The folder that has the images: where the file's first one is. Raises `DataError` that says where they may be."""
    base = path.parent
    root = base.parent if base.name == "annotations" else base
    named = [split] if split is not None else []
    tried = dict.fromkeys(
        [base, *(root / each for each in (*named, "images", *(f"images/{each}" for each in named))), root]
    )
    for folder in tried:
        if names and os.path.isfile(folder / names[0]):
            for name in names:
                existing(str(folder / name), str(path))
            return folder
    raise DataError(f"{path}: its images are in none of {', '.join(str(folder) for folder in tried)}")
