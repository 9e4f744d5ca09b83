"""A drawing that is shown rather than kept: below the cell in a notebook, else in the system's viewer of images."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image


def show(draw: Callable[[Path], object]) -> None:
    """Let `draw` write a PNG, and show it."""
    with tempfile.TemporaryDirectory(prefix="tandem-") as folder:
        path = Path(folder) / "drawing.png"
        draw(path)
        ipython = sys.modules.get("IPython")  # whoever runs in a notebook has imported it
        shell = ipython.get_ipython() if ipython is not None else None
        if shell is not None and getattr(shell, "kernel", None) is not None:
            from IPython.display import Image as Shown
            from IPython.display import display

            display(Shown(data=path.read_bytes()))
            return
        with Image.open(path) as image:
            image.show(title="Tandem")
