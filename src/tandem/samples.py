"""Reads images with captions from WebDataset tars and Parquet files. Images stay encoded. Knows no model.

Both formats are streamed: memory does not grow with the length of a file. The `read_` functions return a list.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tandem.errors import DataError, MissingExtraError
from tandem.parquet_pages import batch_rows
from tandem.tar_files import MAX_TEXT_BYTES, TarFile, tar_members

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")  # the compressions that tarfile reads
PARQUET_SUFFIXES = (".parquet", ".pq")
TAR_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
IMAGE_COLUMNS = ("image", "picture", "img", "photo", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes")
PATH_COLUMNS = ("path", "image_path", "file_path", "filepath", "file_name", "filename", "file", "image_file")
CAPTION_KEYS = ("caption", "captions", "text", "texts", "txt", "sentence", "sentences", "description", "title")
_BRACES = re.compile(r"\{([^{}]*)\}")
_COUNT = re.compile(r"(\d+)\.\.(\d+)")
_MAX_FILES = 1_000_000  # a typo in a brace must not fill the memory
_MAX_BRACES, _MAX_DIGITS = 20, 18
_LONGEST_SHOWN = 200  # characters of a pattern in a message
ROWS_BATCH = 64  # of Parquet, images included: bounds memory


@dataclass(frozen=True)
class Sample:
    """An encoded image and its texts: captions, or a class name."""

    key: str
    image: bytes
    texts: tuple[str, ...]


def shard_kind(path: str | Path) -> Literal["tar", "parquet"] | None:
    """The kind of data file by its suffix, in any case: a tar or Parquet; None for other files."""
    name = str(path).lower()
    return "parquet" if name.endswith(PARQUET_SUFFIXES) else "tar" if name.endswith(TAR_SUFFIXES) else None


def expand_braces(pattern: str) -> list[str]:
    """A pattern with its braces expanded: `{00..12}` counts and keeps zeros, `{a,b}` lists. Raises `DataError`."""
    if pattern.count("{") > _MAX_BRACES:
        raise DataError(f"{pattern[:_LONGEST_SHOWN]}: expected at most {_MAX_BRACES} pairs of braces")
    found = list(itertools.islice(_expanded(pattern), _MAX_FILES + 1))
    if len(found) > _MAX_FILES:
        raise DataError(f"{pattern[:_LONGEST_SHOWN]}: over {_MAX_FILES:,} files; look at its braces")
    return found


def _expanded(pattern: str) -> Iterator[str]:
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    before, after = pattern[: match.start()], pattern[match.end() :]
    for word in _alternatives(match.group(1), pattern[:_LONGEST_SHOWN]):
        yield from _expanded(before + word + after)


def _alternatives(inside: str, pattern: str) -> Iterable[str]:
    count = _COUNT.fullmatch(inside)
    if count is None:
        if "," not in inside:
            raise DataError(f"{pattern}: expected {{0000..0099}} or {{a,b}}, got {{{inside[:_LONGEST_SHOWN]}}}")
        return inside.split(",")
    first, last = count.groups()
    if max(len(first), len(last)) > _MAX_DIGITS or not 0 <= int(last) - int(first) < _MAX_FILES:
        raise DataError(f"{pattern}: {{{inside[:_LONGEST_SHOWN]}}} does not count up, or too far")
    width = len(first) if first.startswith("0") or len(first) == len(last) else 0
    return (str(number).zfill(width) for number in range(int(first), int(last) + 1))


def read_samples(path: Path, text: str) -> list[Sample]:
    """Every sample of one Parquet file, or of a tar of any name. Raises `DataError` that names the file."""
    return read_parquet(path, text) if shard_kind(path) == "parquet" else read_webdataset(path, text)


def read_webdataset(path: TarFile, text: str) -> list[Sample]:
    """A tar of `KEY.jpg` (or another image) with `KEY.json` or `KEY.txt`; `text` is a JSON key, or `txt`."""
    images: dict[str, bytes] = {}
    texts: dict[str, tuple[str, ...]] = {}
    suffix = ".txt" if text == "txt" else ".json"
    for member in tar_members(path, wanted=(*TAR_IMAGE_SUFFIXES, suffix)):
        content = member.content or b""
        if member.suffix in TAR_IMAGE_SUFFIXES:
            images[member.key] = content
        elif member.suffix == suffix:
            try:
                texts[member.key] = captions_in(content, suffix, text)
            except ValueError as error:
                raise DataError(f"{path}: cannot read {member.name}: {error}") from None
    return [Sample(f"{path.name}/{key}", image, texts.get(key, ())) for key, image in images.items()]


def read_parquet(path: Path, text: str) -> list[Sample]:
    """A Parquet file with image bytes in `image` (or `image.bytes`) and texts in the column `text`."""
    if missing := {"image", text} - set(parquet_columns(path)):
        raise DataError(f"{path}: expected the columns image and {text}, found no {sorted(missing)[0]}")
    samples = []
    for row, values in enumerate(parquet_rows(path, ["image", text])):
        content = image_bytes(values["image"])
        if content is None:
            raise DataError(f"{path}: row {row} has no image bytes")
        samples.append(Sample(f"{path.name}#{row}", content, as_captions(values[text])))
    return samples


# --- Parquet -------------------------------------------------------------------------------------------------------


def parquet_columns(path: Path) -> dict[str, str]:
    """The columns of a Parquet file and what pyarrow calls their types. Raises `DataError` that names the file."""
    with _parquet(path) as file:
        return {field.name: str(field.type) for field in file.schema_arrow}


def parquet_image_column(path: Path) -> tuple[str, bool]:
    """The column that holds images, and whether it holds their paths rather than their bytes."""
    columns = parquet_columns(path)
    for name in IMAGE_COLUMNS:
        kind = columns.get(name, "")
        if kind.startswith(("struct", "binary", "large_binary", "fixed_size_binary")):
            return name, False
    for name in (*IMAGE_COLUMNS, *PATH_COLUMNS):
        if columns.get(name, "") in ("string", "large_string", "string_view"):
            return name, True
    raise DataError(
        f"{path}: expected a column of images (image, as bytes or with bytes inside) or of paths "
        f"({', '.join(PATH_COLUMNS[:3])}, ...), found {', '.join(columns)}"
    )


def parquet_metadata(path: Path) -> Mapping[bytes, bytes]:
    """The metadata of the schema, in which other tools keep their own types. Raises `DataError`."""
    with _parquet(path) as file:
        return dict(file.schema_arrow.metadata or {})


def parquet_length(path: Path) -> int:
    """The number of rows, from the footer."""
    with _parquet(path) as file:
        return int(file.metadata.num_rows)


def parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The rows in order, read in small batches. Raises `DataError` where the file is damaged."""
    import pyarrow

    with _parquet(path) as file:
        try:
            rows = batch_rows(path, file, columns, ROWS_BATCH)
            for batch in file.iter_batches(rows, columns=list(columns)):
                yield from batch.to_pylist()
        except (OSError, pyarrow.ArrowException, ValueError) as error:
            raise DataError(f"{path}: cannot read it as Parquet: {_first_line(error)}") from None


def parquet_cells(path: Path, column: str, rows: Sequence[int]) -> Iterator[Any]:
    """The values of one column at these rows, which ascend. Row groups without any of them are not read."""
    import pyarrow

    wanted = iter(rows)
    row = next(wanted, None)
    with _parquet(path) as file:
        begin = 0
        try:
            at_once = batch_rows(path, file, [column], ROWS_BATCH)
            for group in range(file.metadata.num_row_groups):
                end = begin + file.metadata.row_group(group).num_rows
                if row is None:
                    return
                if row < end:
                    for batch in file.iter_batches(at_once, row_groups=[group], columns=[column]):
                        while row is not None and row < begin + len(batch):
                            yield batch.column(0)[row - begin].as_py()
                            row = next(wanted, None)
                        begin += len(batch)
                        if row is None:
                            return
                begin = end
        except (OSError, pyarrow.ArrowException, ValueError) as error:
            raise DataError(f"{path}: cannot read it as Parquet: {_first_line(error)}") from None
    if row is not None:
        raise DataError(f"{path}: expected a row {row:,}, found {begin:,} rows; it has changed since it was opened")


def image_bytes(value: Any) -> bytes | None:
    """The bytes in a cell of an image column: the cell itself, or its `bytes` if it is a mapping; None without any."""
    content = value.get("bytes") if isinstance(value, Mapping) else value
    return content if isinstance(content, bytes) else None


def _parquet(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", "reading Parquet") from None
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: cannot read it as Parquet: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


# --- captions ------------------------------------------------------------------------------------------------------


def captions_in(content: bytes, suffix: str, key: str | None = None) -> tuple[str, ...]:
    """The captions in a `.txt` file, or under `key` in a `.json` file (None: the first of the usual keys).

    Raises `ValueError` where the file is not what its suffix says, or is too large.
    """
    if len(content) > MAX_TEXT_BYTES:
        raise ValueError(f"more bytes than the limit of {MAX_TEXT_BYTES:,}")
    if suffix == ".txt":
        return as_captions(content.decode("utf-8-sig"))
    try:
        document = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if isinstance(document, dict):
        keys = CAPTION_KEYS if key is None else (key,)
        return next((as_captions(document[name]) for name in keys if name in document), ())
    return as_captions(document) if key is None else ()


def as_captions(value: Any) -> tuple[str, ...]:
    """Normalise the value of a caption column or key (one text, several, or none) to a tuple."""
    if isinstance(value, str):
        return (value,)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, (list, tuple)) else ()
