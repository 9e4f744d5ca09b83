"""A progress bar for long work, drawn where a person sees it: a terminal or a notebook. A thin layer over tqdm.

Knows counts and standard error. It does not know what is counted.
"""

import sys
import warnings
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Self, TypeVar

MANY = 64  # items; fewer are done before a bar would be read
_DELAY_S = 0.5

_Item = TypeVar("_Item")


class Progress:
    """Counts up while work is done. Nothing is imported or written unless it is shown.

    `show=None` shows it where standard error is a terminal or the code runs in a notebook, and there are many items
    (or their number is not known). True shows it anywhere, False never.
    """

    def __init__(
        self, total: int | None = None, *, show: bool | None = None, label: str = "", unit: str = "item"
    ) -> None:
        self._bar: Any = None
        asked = show is True
        if show is None:
            show = (total is None or total >= MANY) and is_watched()
        if show:
            # Work that ends within the delay draws nothing, so quick calls leave no line behind.
            self._bar = _tqdm()(
                total=total, desc=label or None, unit=f" {unit}s", delay=0 if asked else _DELAY_S, dynamic_ncols=True
            )

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        if self._bar is not None:
            self._bar.update(count)

    def set_total(self, total: int | None) -> None:
        """How many there are, where that is known only later."""
        if self._bar is not None:
            self._bar.total = total

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def track(items: Iterable[_Item], *, show: bool | None = None, label: str = "", unit: str = "item") -> Iterator[_Item]:
    """The same items, counted by a `Progress` as they are taken."""
    with Progress(count_of(items), show=show, label=label, unit=unit) as progress:
        for item in items:
            yield item
            progress.advance()


def count_of(items: object) -> int | None:
    """How many there are, None where only going through them would tell."""
    return len(items) if isinstance(items, Sized) else None


def _tqdm() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a notebook without ipywidgets it advises to install them, then draws text
        from tqdm.auto import tqdm
    return tqdm


def is_watched() -> bool:
    """Whether a person sees a bar: standard error is a terminal, or the code runs in a notebook."""
    try:
        terminal = sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed
        terminal = False
    return terminal or in_notebook()


def in_notebook() -> bool:
    """Whether IPython runs the code and shows rich output (Jupyter, Colab, VS Code)."""
    ipython = sys.modules.get("IPython")  # whoever runs in a notebook has imported it
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and getattr(shell, "kernel", None) is not None
