"""Progress bars in terminals and notebooks: a thin layer over tqdm. Does not know what is counted."""

import sys
import warnings
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Self, TypeVar

MANY = 64  # items; a bar for fewer would be gone before anyone reads it
_DELAY_S = 0.5

_Item = TypeVar("_Item")


class Progress:
    """A progress bar. Imports and writes nothing unless it is shown.

    `show=None` shows it for many items (or an unknown number) if standard error is a terminal or the code runs in a
    notebook. True always shows it, False never.
    """

    def __init__(
        self, total: int | None = None, *, show: bool | None = None, label: str = "", unit: str = "item"
    ) -> None:
        self._bar: Any = None
        requested = show is True
        if show is None:
            show = (total is None or total >= MANY) and is_watched()
        if show:
            # Work that ends within the delay draws nothing, so quick calls leave no line behind.
            self._bar = _tqdm()(
                total=total,
                desc=label or None,
                unit=f" {unit}s",
                delay=0 if requested else _DELAY_S,
                dynamic_ncols=True,
            )

    def advance(self, count: int = 1) -> None:
        """Count `count` more items as done."""
        if self._bar is not None:
            self._bar.update(count)

    def set_total(self, total: int | None) -> None:
        """Set the number of items once it is known."""
        if self._bar is not None:
            self._bar.total = total

    def close(self) -> None:
        """Stop the bar and leave it visible."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def track(items: Iterable[_Item], *, show: bool | None = None, label: str = "", unit: str = "item") -> Iterator[_Item]:
    """Yield the same items and count them with a `Progress`."""
    with Progress(count_of(items), show=show, label=label, unit=unit) as progress:
        for item in items:
            yield item
            progress.advance()


def count_of(items: object) -> int | None:
    """The number of items, None if it is not known without iterating."""
    return len(items) if isinstance(items, Sized) else None


def _tqdm() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without ipywidgets it would print advice to install them
        from tqdm.auto import tqdm
    return tqdm


def is_watched() -> bool:
    """Whether someone can see a bar: standard error is a terminal, or the code runs in a notebook."""
    try:
        terminal = sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed
        terminal = False
    return terminal or in_notebook()


def in_notebook() -> bool:
    """Whether IPython runs the code and shows rich output (Jupyter, Colab, VS Code)."""
    ipython = sys.modules.get("IPython")  # a notebook has imported it already
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and getattr(shell, "kernel", None) is not None
