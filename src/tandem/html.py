"""Small pieces of HTML for notebooks: thumbnails inside the page, bars, a table. No files, no scripts, no network.

Colours follow the notebook's theme. Knows images and numbers; nothing of models or collections.
"""

import base64
import html
import io
from collections.abc import Sequence

from PIL import Image

from tandem import fetch
from tandem.errors import ImageError
from tandem.files import display_name
from tandem.image import ImageSource, Limits, image_errors, load_image
from tandem.pixels import thumbnail

SIDE = 128  # pixels of a thumbnail's longer side
_BAR = "#0f7b6c"
_TRACK = "rgba(128,128,128,.2)"
_LIMITS = Limits(allow_urls=False)  # showing an answer must not wait for the network


def text(value: str) -> str:
    """Escape text for an element or an attribute. Bytes of file names that are not UTF-8 are shown as `\\xff`."""
    return html.escape(display_name(value), quote=True)


def thumbnail_uri(source: ImageSource | None, side: int = SIDE) -> str | None:
    """A small JPEG as a data URI; None for an image that was not kept, is a URL, or can no longer be read."""
    image = small_image(source, side)
    return None if image is None else image_uri(image)


def small_image(source: ImageSource | None, side: int = SIDE) -> Image.Image | None:
    """A small RGB image; None where there is no thumbnail."""
    if source is None or hasattr(source, "read") or (isinstance(source, str) and fetch.is_url(source)):
        return None
    try:
        image = load_image(source, limits=_LIMITS, at_least=side)
        with image_errors("thumbnail", "converted"):
            return thumbnail(image, side)
    except ImageError:
        return None


def image_uri(image: Image.Image) -> str:
    """A JPEG as a data URI."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def photo(uri: str | None, alt: str, side: int = SIDE) -> str:
    """An image element, or an empty box of its size."""
    box = f"max-width:{side}px;max-height:{side}px"
    if uri is None:
        return f'<span style="display:inline-block;width:{side}px;height:{side // 2}px;background:{_TRACK}"></span>'
    return f'<img src="{text(uri)}" alt="{text(alt)}" style="{box};display:block">'


def bar(share: float, label: str, value: str) -> str:
    """A labelled bar; `share` is its length, 0..1."""
    width = min(max(share, 0.0), 1.0)
    return (
        '<div style="margin:2px 0;min-width:16em">'
        f'<div style="display:flex;justify-content:space-between;gap:1em">'
        f"<span>{text(label)}</span><span>{text(value)}</span></div>"
        f'<div style="background:{_TRACK};height:6px"><div style="background:{_BAR};height:6px;width:{width:.1%}">'
        "</div></div></div>"
    )


def table(rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Rows of cells that are HTML already; `caption` is plain text."""
    cells = "".join(
        "<tr>" + "".join(f'<td style="text-align:left;vertical-align:top">{cell}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    head = f'<caption style="text-align:left">{text(caption)}</caption>' if caption else ""
    return f"<table>{head}<tbody>{cells}</tbody></table>"
