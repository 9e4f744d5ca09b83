"""A page to draw on, addressed in inches from its top left corner; the colours and fonts that all drawings share.

Draws on figures of its own (Agg): nothing of the caller's matplotlib is touched. Knows images and text, and nothing
of what they stand for. Lengths are inches unless they say otherwise.
"""

import io
import re
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from tandem.errors import MissingExtraError, TandemError
from tandem.files import atomic_write
from tandem.progress import in_notebook

Target = TypeVar("Target", bound=Path | None)  # where a drawing goes; None: onto the screen

INK, QUIET, TRACK = "#1f2933", "#7b8794", "#eef1f4"
BEST, OTHER = "#0f7b6c", "#9fcfc4"
GAP, MARGIN = 0.35, 0.35
TITLE, FOOT = 0.28, 0.3
FOOT_CHARACTERS_PER_INCH = 14
DPI = 160
SUFFIXES = (".png", ".jpg", ".pdf", ".svg", ".webp")
_UNDRAWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # fonts have no glyphs, or refuse
PHOTO_PIXELS = int(2.4 * DPI * 1.5)  # of the longest side: half as many again as the widest box shows


def is_installed() -> bool:
    """Whether drawing is possible; without importing matplotlib, which takes a while."""
    return find_spec("matplotlib") is not None


def check_installed() -> None:
    """`MissingExtraError` where drawing is not possible."""
    if not is_installed():
        raise MissingExtraError("matplotlib", "plot", "drawing")


def check_target(path: Path) -> None:
    """Refuse a file name that no drawing can have: better before the long work than after it."""
    if path.suffix.lower() not in SUFFIXES:
        raise TandemError(f"{path}: expected an image's suffix ({', '.join(SUFFIXES)}), got {path.suffix or 'none'!r}")


class Page:
    """A white figure of `width` x `height`."""

    def __init__(self, width: float, height: float) -> None:
        check_installed()
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        bottom = self.height - top - height
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def text(self, left: float, top: float, text: str, *, size: float, color: str = INK, **style: Any) -> None:
        # A dollar sign is a dollar sign, not mathematics.
        self.figure.text(
            left / self.width, 1 - top / self.height, _drawable(text), fontsize=size, color=color, va="center",
            parse_math=False, **style,
        )  # fmt: skip

    def photo(
        self, image: Image.Image, left: float, top: float, width: float, height: float, frame: str | None = None
    ) -> None:
        """The image, whole, in the middle of a box."""
        shown = image.convert("RGB")
        shown.thumbnail((PHOTO_PIXELS, PHOTO_PIXELS))
        scale = min(width / shown.width, height / shown.height)
        inner_width, inner_height = shown.width * scale, shown.height * scale
        axes = self.axes(left + (width - inner_width) / 2, top + (height - inner_height) / 2, inner_width, inner_height)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.imshow(shown, interpolation="antialiased", aspect="auto")
        for spine in axes.spines.values():
            spine.set_visible(frame is not None)
            spine.set_edgecolor(frame or TRACK)
            spine.set_linewidth(2.2)

    def box(self, left: float, top: float, width: float, height: float, color: str) -> None:
        """A plain rectangle."""
        from matplotlib.patches import Rectangle

        corner = (left / self.width, 1 - (top + height) / self.height)
        size = (width / self.width, height / self.height)
        self.figure.add_artist(
            Rectangle(corner, *size, facecolor=color, edgecolor="none", transform=self.figure.transFigure)
        )

    def badge(self, left: float, bottom: float, text: str, color: str) -> None:
        self.figure.text(
            left / self.width, 1 - bottom / self.height, text, fontsize=8, color="white", va="bottom",
            bbox={"boxstyle": "round,pad=0.25", "facecolor": color, "edgecolor": "none", "alpha": 0.9},
        )  # fmt: skip

    def foot(self, left: str, right: str) -> None:
        middle = self.height - FOOT / 2 - 0.03
        characters = int((self.width - 2 * MARGIN) * FOOT_CHARACTERS_PER_INCH) - len(right)
        self.text(MARGIN, middle, short(left, max(characters, 12)), size=7.5, color=QUIET)
        self.text(self.width - MARGIN, middle, right, size=7.5, color=QUIET, ha="right")

    def finish(self, path: Target) -> Target:
        """Write the page to `path` and give it back; None shows the page instead."""
        if path is None:
            self.show()
        else:
            self.save(path)
        return path

    def show(self) -> None:
        """In a notebook below the cell, elsewhere in a window, which is waited for. `TandemError` without a display."""
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=DPI)
        if in_notebook():
            from IPython.display import Image as Shown
            from IPython.display import display

            display(Shown(data=file.getvalue(), width=int(self.width * 72)))
            return
        import matplotlib
        from matplotlib import pyplot

        if matplotlib.get_backend().lower() in ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template"):
            raise TandemError("nothing here can show a drawing: give a path to write it to")
        window = pyplot.figure(figsize=(self.width, self.height))
        axes = window.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.imshow(Image.open(file))
        pyplot.show()

    def save(self, path: Path) -> None:
        """A drawing is there whole or not at all."""
        check_target(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            self.figure.savefig(partial, format=path.suffix.lower().lstrip("."), dpi=DPI)


def centre(image: Image.Image) -> Image.Image:
    """The central square: all that most models look at."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def short(text: str, characters: int) -> str:
    return textwrap.shorten(text, characters, placeholder="…") if " " in text else cut(text, characters)


def cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def _drawable(text: str) -> str:
    """`text` on one line: control characters, and bytes of file names that are not UTF-8, are spelled out."""

    def spelled(found: re.Match[str]) -> str:
        code = ord(found[0])
        if 0xDC80 <= code <= 0xDCFF:  # how Python keeps such a byte
            return f"\\x{code - 0xDC00:02x}"
        return found[0].encode("unicode_escape").decode("ascii")

    return _UNDRAWABLE.sub(spelled, text)


def file_name(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1] or name


def percent(probability: float) -> str:
    return f"{probability:.0%}" if probability >= 0.0995 else f"{probability:.1%}"
