"""Tables, folders and file names -> rows to score, one after the other. Opens no image and knows no model."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from tandem.clip_score.formulas import Metric
from tandem.clip_score.metrics import METRICS
from tandem.clip_score.rows import ScoreRow
from tandem.datasets.data_files import in_line, inside, read_text, shown
from tandem.datasets.table import LINES, SEPARATORS, read_lines
from tandem.errors import DataError, ImageError
from tandem.files import user_path
from tandem.image import IMAGE_SUFFIXES, source_name
from tandem.samples import CAPTION_KEYS, IMAGE_COLUMNS, PATH_COLUMNS

# The usual names of a row's fields, the likeliest first.
COLUMNS: dict[str, tuple[str, ...]] = {
    "image": (*PATH_COLUMNS, *IMAGE_COLUMNS, "edited_image", "output_image"),
    "prompt": ("prompt", *CAPTION_KEYS, "edited_prompt", "output_caption"),
    "references": ("references", "reference_captions"),
    "source_image": ("source_image", "original_image", "input_image"),
    "source_prompt": ("source_prompt", "original_prompt", "source_caption", "input_caption", "source_text"),
}
_BETWEEN = "|"  # references in one cell
_LONGEST_PROMPT = 1 << 20  # bytes of a text file beside an image
_NUMBERS = re.compile(r"(\d+\s+)+|(\s+\d+)+$")  # counters and seeds at the ends of a file name


def is_table(source: str) -> bool:
    """Whether this names a table, which may not be there: CSV and TSV with a header, or JSON Lines."""
    if source.startswith(("http://", "https://")):
        return False
    path = user_path(source, strict=False)
    return path.suffix.lower() in (*SEPARATORS, *LINES) and not path.is_dir()


class Table:
    """The rows of a table: `metrics` are those that its columns allow; `rows()` reads it as a stream.

    `columns` names the columns of fields, where they do not have their usual names. Rows whose path leads out of the
    table's folder, and rows that lack a text, have an `error`.
    """

    def __init__(self, source: str, columns: Mapping[str, str] | None = None) -> None:
        self.path = user_path(source)
        if not self.path.is_file():
            raise DataError(f"{self.path}: expected a table, there is no such file")
        lines = read_lines(self.path)
        first = next(lines, None)
        if first is None:
            raise DataError(f"{self.path}: it has a header at most, and no rows")
        self._lines: Iterable[tuple[int, Mapping[str, Any]]] = chain([first], lines)
        self.columns = _chosen(list(first[1]), columns or {}, self.path)
        self.metrics = possible(set(self.columns) - {"image"})
        if not self.metrics:
            raise DataError(
                f"{self.path}: expected a column of prompts ({', '.join(COLUMNS['prompt'][:3])}) or of source images "
                f"({', '.join(COLUMNS['source_image'][:3])}), found {', '.join(map(in_line, first[1]))}"
            )

    def rows(self) -> Iterator[ScoreRow]:
        """Each row once. Raises `DataError` that names the line."""
        others = {field: COLUMNS[field] for field in COLUMNS.keys() - self.columns.keys()}
        for line, values in self._lines:
            place = f"{self.path}, line {line}"
            for field, usual in others.items():  # JSON Lines: each line may have keys of its own
                if extra := next((name for name in usual if values.get(name)), None):
                    raise DataError(
                        f"{place}: it has {extra}, which the first row has not: every row needs the {field}"
                    )
            found = {field: values.get(column) for field, column in self.columns.items()}
            refused: ImageError | None = None
            images: dict[str, str] = {}
            for name in self.columns.keys() & {"image", "source_image"}:
                try:
                    images[name] = self._image(found[name], place)
                except ImageError as error:
                    refused, images[name] = error, error.source
            prompt = _text(found.get("prompt"), self.columns.get("prompt"), place)
            references = _references(found.get("references"), place)
            source_prompt = _text(found.get("source_prompt"), self.columns.get("source_prompt"), place)
            texts = {"prompt": prompt, "references": references, "source_prompt": source_prompt}
            empty = next((name for name, text in texts.items() if name in self.columns and not text), None)
            if refused is None and empty is not None:
                refused = ImageError(
                    images["image"], f"no {empty.replace('_', ' ')}: {self.columns[empty]} is empty", "invalid"
                )
            yield ScoreRow(
                images["image"], prompt, references, images.get("source_image"), source_prompt, place, refused
            )

    def _image(self, value: Any, place: str) -> str:
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{place}: expected the path of an image, found {shown(value)}")
        if value.startswith(("http://", "https://")):
            return value
        path = str(user_path(value))
        if os.path.isabs(path):
            return path
        try:
            return os.path.normpath(self.path.parent / inside(path, place))
        except DataError as error:
            raise ImageError(value, str(error), "invalid") from None


def possible(fields: set[str]) -> tuple[Metric, ...]:
    """The metrics that these fields of rows allow, the one with the most fields first."""
    found = [metric for metric, about in METRICS.items() if set(about.needs) <= fields]
    return tuple(sorted(found, key=lambda metric: -len(METRICS[metric].needs)))


def prompt_beside(image: str) -> str:
    """The text in the `.txt` file beside an image. Raises `ImageError`, for the row is one that cannot be scored."""
    path = Path(os.path.splitext(image)[0] + ".txt")
    try:
        text = " ".join(read_text(path, most=_LONGEST_PROMPT).split())
    except FileNotFoundError:
        raise ImageError(image, f"no prompt: there is no {path.name} beside it", "invalid") from None
    except (OSError, UnicodeDecodeError, DataError) as error:
        raise ImageError(image, f"no prompt: {path.name} cannot be read: {error}", "invalid") from None
    if not text:
        raise ImageError(image, f"no prompt: {path.name} is empty", "invalid")
    return text


def prompt_in_name(image: str) -> str:
    """The words of a file name: `0001-2931-a_red_ball.png` says "a red ball".

    `_`, `-` and `+` stand for spaces; numbers at the ends are counters and seeds. Raises `ImageError` without words.
    """
    stem = os.path.splitext(os.path.basename(image))[0]
    words = " ".join(re.split(r"[\s_+-]+", stem)).strip()
    words = _NUMBERS.sub("", words, count=1) if _NUMBERS.match(words) else words
    words = re.sub(r"(\s+\d+)+$", "", words)
    if not words or words.isdecimal():
        raise ImageError(image, "no prompt: its name has no words", "invalid")
    return words


def source_in(folder: str, root: str) -> Callable[[str], str]:
    """Finds the source image in `folder` of an image under `root`: of the same relative path, with any suffix."""

    def find(image: str) -> str:
        relative = os.path.relpath(image, root)
        path = os.path.join(folder, relative)
        if os.path.exists(path):
            return path
        stem = os.path.splitext(path)[0]
        for suffix in sorted(IMAGE_SUFFIXES):
            if os.path.exists(stem + suffix):
                return stem + suffix
        raise ImageError(image, f"no source image: there is no {relative} in {folder}", "not_found")

    return find


def file_rows(
    images: Sequence[Any],
    *,
    prompt: Callable[[str], str] | None = None,
    source_image: Callable[[str], str] | None = None,
    source_prompt: str | None = None,
    takes_any: bool = False,
) -> Iterator[ScoreRow]:
    """A row for each image; those without a prompt or a source image have an `error`.

    `takes_any`: the functions need no path, so that an image may be an open file.
    """
    for image in images:
        text = source = refused = None
        try:
            if not isinstance(image, str) and not takes_any:
                raise ImageError(source_name(image), "no prompt: it has no file name", "invalid")
            text = prompt(image) if prompt else None
            source = source_image(image) if source_image else None
        except ImageError as error:
            refused = error
        yield ScoreRow(image, text, source_image=source, source_prompt=source_prompt, error=refused)


def _chosen(there: Sequence[str], named: Mapping[str, str], path: Path) -> dict[str, str]:
    """The column of each field: the one that was named, else the usual one that is there."""
    if unknown := [field for field in named if field not in COLUMNS]:
        raise DataError(f"columns: expected {', '.join(COLUMNS)}, got {unknown[0]!r}")
    if missing := [column for column in named.values() if column not in there]:
        raise DataError(f"{path}: there is no column {shown(missing[0])}; found {', '.join(map(in_line, there))}")
    found = dict(named)
    for field, usual in COLUMNS.items():
        column = next((name for name in usual if name in there and name not in found.values()), None)
        if field not in found and column is not None:
            found[field] = column
    if "image" not in found:
        raise DataError(
            f"{path}: expected a column of paths ({', '.join(PATH_COLUMNS[:3])}, image), "
            f"found {', '.join(map(in_line, there))}"
        )
    return found


def _text(value: Any, column: str | None, place: str) -> str | None:
    """The text of a row; None for an empty cell. Raises `DataError` for what is no text."""
    if column is None or value is None or value == "":
        return None
    if not isinstance(value, str):
        raise DataError(f"{place}: expected a text in {column}, found {shown(value)}")
    return value if value.strip() else None


def _references(value: Any, place: str) -> tuple[str, ...]:
    """A list of texts, or texts with `|` between them."""
    texts = value.split(_BETWEEN) if isinstance(value, str) else value
    if texts is None:
        return ()
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{place}: expected references as a list of texts, or texts with | between, found {shown(value)}"
        )
    return tuple(text.strip() for text in texts if text.strip())
