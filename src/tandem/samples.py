"""Pictures with their words, read from WebDataset tars and from Parquet. Pictures stay encoded; no model known here."""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tandem.errors import DataError, MissingExtraError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


@dataclass(frozen=True)
class Sample:
    """One picture, still encoded, and its words: captions, or a name."""

    key: str
    image: bytes
    texts: tuple[str, ...]


def read_samples(path: Path, text: str) -> list[Sample]:
    """Every sample of one file, by its ending. Raises `DataError` that names the file."""
    return read_parquet(path, text) if path.suffix == ".parquet" else read_webdataset(path, text)


def read_webdataset(path: Path, text: str) -> list[Sample]:
    """A tar of `KEY.jpg` (or another picture) with `KEY.json` or `KEY.txt`; `text` is a JSON key, or `txt`."""
    pictures: dict[str, bytes] = {}
    texts: dict[str, tuple[str, ...]] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isfile() else None
                if stream is None:
                    continue
                key, _, suffix = member.name.partition(".")
                suffix = f".{suffix.lower()}"
                if suffix in PICTURES:
                    pictures[key] = stream.read()
                elif suffix == ".txt" and text == "txt":
                    texts[key] = (stream.read().decode(),)
                elif suffix == ".json" and text != "txt":
                    value = json.loads(stream.read()).get(text, [])
                    texts[key] = (value,) if isinstance(value, str) else tuple(value)
    except (OSError, tarfile.TarError, ValueError) as error:
        raise DataError(f"{path}: cannot read it as a WebDataset tar: {error}") from None
    return [Sample(f"{path.name}/{key}", image, texts.get(key, ())) for key, image in pictures.items()]


def read_parquet(path: Path, text: str) -> list[Sample]:
    """A Parquet file with picture bytes in `image` (or `image.bytes`) and words in the column `text`."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "train", "reading Parquet") from None
    try:
        table = pyarrow.parquet.read_table(path, columns=["image", text])
    except (OSError, pyarrow.ArrowException, KeyError) as error:
        raise DataError(f"{path}: expected the columns image and {text}: {str(error).splitlines()[0]}") from None
    if len(table.column_names) != 2:
        raise DataError(f"{path}: expected the columns image and {text}, got {table.column_names}")
    pictures, words = table.column("image").to_pylist(), table.column(text).to_pylist()
    samples = []
    for row, (image, value) in enumerate(zip(pictures, words, strict=True)):
        data = image["bytes"] if isinstance(image, dict) else image
        samples.append(Sample(f"{path.name}#{row}", data, (value,) if isinstance(value, str) else tuple(value or ())))
    return samples
