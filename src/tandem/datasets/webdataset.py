"""WebDataset tars: `KEY.jpg` with `KEY.cls`, `KEY.txt` or `KEY.json`; and CLIP_benchmark's folders of them."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem import samples, tar_files
from tandem.datasets import clip_benchmark, split_names
from tandem.datasets.data_files import in_line, number_in
from tandem.datasets.images import ShardImages, full_path
from tandem.datasets.labels import LABEL_COLUMNS, as_labels
from tandem.datasets.memory import remembered
from tandem.datasets.rows import Label, Request, Rows
from tandem.datasets.shards import choose_files, name_of, shard_splits
from tandem.errors import DataError, in_words
from tandem.files import display_name

_ABOUT = (".cls", ".txt", ".json", ".npy")  # what is read of a sample besides its image


def recognises(source: str) -> bool:
    """Whether it is a tar, several, a folder of tars, or CLIP_benchmark's folder or one of its splits."""
    return clip_benchmark.find(source) is not None or shard_splits(source, "tar") is not None


def splits(source: str) -> tuple[str, ...]:
    """The folders of CLIP_benchmark's, or the splits that the names of tars begin with."""
    benchmark = clip_benchmark.find(source)
    return tuple(benchmark.splits if benchmark else (shard_splits(source, "tar") or ({}, []))[0])


def read(request: Request) -> Rows:
    """The samples of the tars; images are not read. Raises `DataError` that names the tar and the sample."""
    if request.where is not None:
        raise DataError(f"{request.source}: tars have no columns for where")
    benchmark = clip_benchmark.find(request.source)
    if benchmark is None:
        split, files = choose_files(request, "tar")
        return _rows(request, files, name_of(request.source, files, split), split)
    split, folder = split_names.choose(benchmark.splits, request.split, request.source)
    kind = benchmark.kind
    rows = _rows(request, benchmark.shards(folder), full_path(benchmark.root).name, split, kind)
    if kind == "retrieval":
        return rows
    return replace(rows, class_names=benchmark.class_names(), templates=benchmark.templates())


@dataclass
class _Found:
    """Samples being collected."""

    keys: list[str] = field(default_factory=list)
    labels: list[tuple[Label, ...] | None] = field(default_factory=list)
    captions: list[tuple[str, ...]] = field(default_factory=list)
    shards: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


def _rows(request: Request, files: list[Path], name: str, split: str | None, kind: str = "") -> Rows:
    found = _Found()
    places: dict[Path, NDArray[np.int64]] = {}
    lone = 0
    for shard, path in enumerate(files):
        at: list[tuple[int, int]] = []
        for sample in _samples(path):
            place = f"{path}, {in_line(sample.name)}"
            if sample.size < 0:
                if {".cls", ".npy"} & sample.about.keys():
                    raise DataError(f"{place}: there is no image ({', '.join(samples.TAR_IMAGE_SUFFIXES)}) beside it")
                lone += 1
                continue
            found.keys.append(f"{path.name}/{sample.name}")
            found.labels.append(_labels(sample.about, request.label, kind, place))
            found.captions.append(_captions(sample.about, request, kind, place))
            found.shards.append(shard)
            found.rows.append(len(at))
            at.append((sample.at, sample.size))
        places[path] = np.array(at, np.int64).reshape(-1, 2)
    labelled = any(labels is not None for labels in found.labels)
    return Rows(
        name=name,
        keys=found.keys,
        images=ShardImages(files, np.array(found.shards, np.int64), np.array(found.rows, np.int64), Members(places)),
        labels=found.labels if labelled else None,
        captions=found.captions if any(found.captions) else None,
        split=split,
        notes=(f"texts without an image beside them were left out: {lone:,}",) if lone else (),
        multi_label=labelled and (kind == "multilabel" or any(len(labels or ("",)) != 1 for labels in found.labels)),
    )


class Members:
    """Reads the images of tars: by their offsets, or in a compressed tar one after the other."""

    def __init__(self, places: Mapping[Path, NDArray[np.int64]]) -> None:
        self.places = places  # offset (-1 in a compressed tar) and size of each image, int64 [n 2]

    def part(self, path: Path, /) -> str:
        return f"members {hashlib.sha256(self.places[path].tobytes()).hexdigest()[:16]}"

    def __call__(self, path: Path, rows: Sequence[int], /) -> Iterator[bytes]:
        places = self.places[path]
        if len(places) and places[0, 0] < 0:
            yield from self._one_by_one(path, rows)
            return
        try:
            with path.open("rb") as file:
                for row in rows:
                    at, size = places[row].tolist()
                    file.seek(at)
                    content = file.read(size)
                    if len(content) < size:
                        raise DataError(f"{path}: it ends in the middle of an image, at byte {at + len(content):,}")
                    yield content
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None

    def _one_by_one(self, path: Path, rows: Sequence[int]) -> Iterator[bytes]:
        wanted = iter(rows)
        row = next(wanted, None)
        groups = tar_files.tar_groups(tar_files.tar_members(path, samples.TAR_IMAGE_SUFFIXES))
        images = (image for group in groups if (image := _image(group)) is not None)
        for number, image in enumerate(images):
            if number == row:
                yield image.content or b""
                row = next(wanted, None)
            if row is None:
                return
        raise DataError(f"{path}: expected an image {row:,}; it has changed since it was opened")


@dataclass(frozen=True)
class _Sample:
    """A sample of a tar: its image and the small files beside it."""

    name: str  # of the image, or without one of the first file
    at: int  # -1 in a compressed tar
    size: int  # -1 without an image
    about: Mapping[str, bytes]  # by suffix


def _samples(path: Path) -> list[_Sample]:
    """The samples of a tar. Its headers are read once, as long as it does not change."""
    content = remembered(path, "samples 2", lambda: json.dumps(list(_listed(path))).encode())
    found = []
    for name, at, size, about in json.loads(content):
        found.append(_Sample(name, at, size, {suffix: text.encode("latin-1") for suffix, text in about.items()}))
    return found


def _listed(path: Path) -> Iterator[tuple[str, int, int, Mapping[str, str]]]:
    """As `_Sample`, with bytes as Latin 1. Raises `DataError` where the tar is cut off, which `tarfile` does not."""
    last = None
    for group in tar_files.tar_groups(tar_files.tar_members(path, wanted=_ABOUT)):
        last = group[-1]
        image = _image(group)
        shown = [each for each in group if each.suffix in _ABOUT and not _is_hidden(each)]
        about = {each.suffix: (each.content or b"").decode("latin-1") for each in shown}
        if image is not None:
            yield display_name(image.name), image.at, image.size, about
        elif shown:
            yield display_name(shown[0].name), -1, -1, about
    if last is not None and last.end >= 0 and not tar_files.tar_has_end(path, last.end):
        raise DataError(
            f"{path}: it ends at byte {path.stat().st_size:,}, before the end mark of a tar; fetch it again"
        )


def _image(group: Sequence[tar_files.TarMember]) -> tar_files.TarMember | None:
    """The first image of a sample that is not hidden."""
    return next((each for each in group if each.suffix in samples.TAR_IMAGE_SUFFIXES and not _is_hidden(each)), None)


def _is_hidden(member: tar_files.TarMember) -> bool:
    return member.name.rpartition("/")[2].startswith(".")


def _labels(content: Mapping[str, bytes], asked: str | None, kind: str, place: str) -> tuple[Label, ...] | None:
    if kind == "retrieval":
        return None
    if kind == "multilabel":
        return _of_array(content.get(".npy"), place)
    if asked in ("cls", "txt"):
        return as_labels(_decoded(content.get(f".{asked}", b""), place).strip(), place)
    if asked is None and ".cls" in content:
        written = _decoded(content[".cls"], place).strip()
        number = number_in(written)
        return as_labels(written, place) if number is None else (number,)
    if ".json" in content:
        document = _document(content[".json"], place)
        keys = LABEL_COLUMNS if asked is None else (asked,)
        return next((as_labels(document[key], place) for key in keys if key in document), None)
    return None


def _of_array(content: bytes | None, place: str) -> tuple[Label, ...]:
    """The classes whose number is above 0 in an array [c] of whole or real numbers in numpy's format."""
    if content is None:
        raise DataError(f"{place}: expected its labels in .npy")
    try:
        values = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError, OverflowError, zipfile.BadZipFile) as error:
        raise DataError(f"{place}: its labels cannot be read: {error}") from None
    if not isinstance(values, np.ndarray):
        raise DataError(f"{place}: expected labels [c] in .npy, found several arrays (.npz)")
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        raise DataError(f"{place}: expected labels [c] in .npy, found an array {list(values.shape)} of {values.dtype}")
    if not np.isfinite(values).all():
        raise DataError(f"{place}: expected a number for each label in .npy, found {values[~np.isfinite(values)][0]}")
    return tuple(np.flatnonzero(values > 0).tolist())


def _captions(content: Mapping[str, bytes], request: Request, kind: str, place: str) -> tuple[str, ...]:
    if kind == "retrieval":
        lines = _decoded(content.get(".txt", b""), place).splitlines()
        return tuple(line.strip() for line in lines if line.strip())
    asked = request.caption
    suffixes = (".json", ".txt") if asked is None else (".txt",) if asked == "txt" else (".json",)
    for suffix in suffixes:
        if suffix in content and not (suffix == ".txt" and request.label == "txt"):
            try:
                found = samples.captions_in(content[suffix], suffix, asked if suffix == ".json" else None)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{place}: its {suffix} cannot be read: {in_words(error)}") from None
            if texts := tuple(text for text in found if text.strip()):
                return texts
    return ()


def _document(content: bytes, place: str) -> Mapping[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: its .json cannot be read: {in_words(error)}") from None
    return document if isinstance(document, dict) else {}


def _decoded(content: bytes, place: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: expected text in UTF-8: {error.reason} at byte {error.start}") from None
