"""Shapes as an SVG document. Knows text only."""

from collections.abc import Sequence


def document(width: int, height: int, background: str, elements: Sequence[str]) -> str:
    """An SVG document of that many pixels: `elements` from back to front, over a background of one colour."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="{background}"/>',
        *elements,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
