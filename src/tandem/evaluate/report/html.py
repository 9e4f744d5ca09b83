"""A report as one HTML file: style, sections, tables, figures, galleries. No script, no network, light and dark.

Text is escaped by every function here; what is `Html` already is not escaped again. So a hostile name of a class or of
a file stays a name. Knows figures, and nothing of tasks.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tandem import html
from tandem.evaluate.figures import Figure
from tandem.evaluate.report.formats import FIGURE_HEADINGS, figure_row

# Nothing that a report contains may run or be fetched, whatever it is called.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --quiet: #5f6c7b; --line: #d9dfe5; --page: #ffffff;
  --panel: #f5f7f9; --accent: #0f7b6c; --second: #c2571a; --third: #2f6fb0; --fourth: #b03a5b; --fifth: #7f8f24;
  --sixth: #7d54b3; --good: #0f7b6c; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --quiet: #9aa7b4; --line: #36414c; --page: #14191e;
  --panel: #1c232a; --accent: #4cc2ae; --second: #f0935a; --third: #7db4ec; --fourth: #ef86a4; --fifth: #bccb62;
  --sixth: #b99ae6; --good: #4cc2ae; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1.25rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; margin: 2.4rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p, ul { margin: .4rem 0 .8rem; max-width: 46rem; }
.quiet, figcaption, caption { color: var(--quiet); font-size: .9rem; }
.wide { overflow-x: auto; margin: .6rem 0 1rem; }
table { border-collapse: collapse; font-size: .93rem; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { text-align: left; vertical-align: top; padding: .28rem .9rem .28rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: normal; max-width: 36rem; }
th { color: var(--quiet); font-weight: 500; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: .8rem 0 1.2rem; }
figure svg { display: block; width: 100%; height: auto; }
.side { display: grid; gap: 0 2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.gallery { display: grid; gap: 1rem .9rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); padding: 0;
  margin: .6rem 0 1.2rem; list-style: none; max-width: none; }
.gallery li { font-size: .85rem; line-height: 1.35; }
.gallery img, .gallery .none { width: 100%; height: 9rem; object-fit: contain; background: var(--panel);
  border-radius: 4px; display: block; margin-bottom: .3rem; }
.good { color: var(--good); } .bad { color: var(--bad); }
.note { background: var(--panel); border-left: 3px solid var(--second); padding: .5rem .8rem; }
details summary { cursor: pointer; color: var(--quiet); }
@media (max-width: 32rem) { body { padding: 1rem .8rem 3rem; } table { font-size: .84rem; }
  th, td { padding-right: .55rem; } .gallery { grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); } }
@media print { body { max-width: none; } h2 { break-after: avoid; } figure, .gallery li { break-inside: avoid; } }
"""


class Html(str):
    """Markup that is safe to put into a page: made by functions that escape what they are given."""


def escape(value: object) -> Html:
    """Text for an element or an attribute; `Html` stays as it is."""
    return value if isinstance(value, Html) else Html(html.text(str(value)))


def joined(parts: Iterable[str], between: str = "\n") -> Html:
    """Parts one after another, each escaped if it has to be."""
    return Html(between.join(map(escape, parts)))


def page(title: str, *parts: str, lead: str = "") -> Html:
    """A whole document; `lead` is the paragraph below the title."""
    return Html(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.text(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + (f'<p class="quiet">{escape(lead)}</p>\n' if lead else "")
        + joined(filter(None, parts))
        + "\n</body>\n</html>\n"
    )


def section(title: str, *parts: str, level: int = 2) -> Html:
    """A heading and what is below it; nothing where there is nothing below it."""
    filled = [part for part in parts if part]
    return Html(f"<h{level}>{escape(title)}</h{level}>\n{joined(filled)}") if filled else Html("")


def paragraph(text: str, *, quiet: bool = False) -> Html:
    """A paragraph; a quiet one explains."""
    mark = ' class="quiet"' if quiet else ""
    return Html(f"<p{mark}>{escape(text)}</p>")


def note(text: str) -> Html:
    """A paragraph that a reader must not miss."""
    return Html(f'<p class="note">{escape(text)}</p>')


def listing(items: Iterable[str]) -> Html:
    """A list; nothing for no items."""
    lines = [f"<li>{escape(item)}</li>" for item in items]
    return Html(f"<ul>{''.join(lines)}</ul>" if lines else "")


def side_by_side(*parts: str) -> Html:
    """Parts beside one another where the screen is wide enough."""
    return Html(f'<div class="side">{"".join(f"<div>{escape(part)}</div>" for part in parts if part)}</div>')


def folded(summary: str, *parts: str) -> Html:
    """What few readers need, closed at first."""
    return Html(f"<details><summary>{escape(summary)}</summary>\n{joined(parts)}</details>")


def table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = (), caption: str = ""
) -> Html:
    """Rows below headings; the columns at `numbers` are aligned to the right. Nothing without rows."""

    def cells(tag: str, row: Sequence[object]) -> str:
        marks = [' class="number"' if at in numbers else "" for at in range(len(row))]
        return "".join(f"<{tag}{mark}>{escape(cell)}</{tag}>" for mark, cell in zip(marks, row, strict=True))

    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    head = f"<caption>{escape(caption)}</caption>" if caption else ""
    head += f"<thead><tr>{cells('th', headings)}</tr></thead>"
    return Html(f'<div class="wide"><table>{head}<tbody>\n{body}\n</tbody></table></div>' if body else "")


def figures_table(figures: Mapping[str, Figure], *, caption: str = "") -> Html:
    """Figures with their interval, chance and n."""
    rows = [figure_row(name, each) for name, each in figures.items()]
    return table(FIGURE_HEADINGS, rows, numbers=(1, 2, 3, 4), caption=caption)


def drawing(svg: str, caption: str) -> Html:
    """A chart of `charts` with what it shows."""
    return Html(f"<figure>{escape(svg)}<figcaption>{escape(caption)}</figcaption></figure>")


class Tile(NamedTuple):
    """An image of a gallery: its thumbnail as a data URI (None: it cannot be shown), its name, lines below it."""

    uri: str | None
    name: str
    lines: Sequence[str] = ()


def gallery(tiles: Iterable[Tile]) -> Html:
    """Thumbnails in rows, as many as fit; nothing without tiles."""
    items = []
    for tile in tiles:
        shown = (
            f'<img src="{html.text(tile.uri)}" alt="{html.text(tile.name)}">'
            if tile.uri is not None
            else '<span class="none"></span>'
        )
        lines = "".join(f"<br>{escape(line)}" for line in tile.lines)
        items.append(f'<li>{shown}<span class="quiet">{escape(tile.name)}</span>{lines}</li>')
    return Html(f'<ul class="gallery">{"".join(items)}</ul>' if items else "")
