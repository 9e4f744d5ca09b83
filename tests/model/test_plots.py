"""Answers as images: files that open, of the right shape, with the bars where the numbers say."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image
from support import toy

from tandem import plots
from tandem.errors import TandemError
from tandem.plots.page import _drawable

pytest.importorskip("matplotlib")

TOP = [("cat", 0.75), ("dog", 0.2), ("zebra", 0.05)]


def rows(count: int) -> list[plots.Row]:
    return [plots.Row(toy.random_image(i), f"photos/{i}.png", TOP) for i in range(count)]


def colored(path: Path, color: str) -> np.ndarray:
    """Where the drawing has exactly this colour, bool [h w]."""
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return np.asarray((np.asarray(Image.open(path).convert("RGB")) == wanted).all(axis=-1))


def test_bars_are_as_long_as_the_probabilities(tmp_path: Path) -> None:
    path = plots.draw_answer(rows(1), tmp_path / "answer.png")
    best = colored(path, plots.BEST).sum(axis=1).max()
    others = colored(path, plots.OTHER).sum(axis=1)
    second = others.max()
    third = np.unique(others[others > 0])[0]
    whole = best / TOP[0][1]
    assert second / whole == pytest.approx(TOP[1][1], abs=0.01)
    assert third / whole == pytest.approx(TOP[2][1], abs=0.01)


def test_the_photo_is_there_whole(tmp_path: Path) -> None:
    red = Image.new("RGB", (300, 200), (200, 0, 0))
    path = plots.draw_answer([plots.Row(red, "red.png", TOP)], tmp_path / "answer.png")
    shown = colored(path, "#c80000")
    height, width = shown.any(axis=1).sum(), shown.any(axis=0).sum()
    assert width / height == pytest.approx(1.5, abs=0.02)
    assert width > 300


@pytest.mark.slow
def test_more_photos_take_more_room(tmp_path: Path) -> None:
    sizes = [Image.open(plots.draw_answer(rows(n), tmp_path / f"{n}.png")).size for n in (1, 3, 4, 7)]
    assert sizes[1][1] > sizes[0][1]  # one below the other
    assert sizes[2][0] > sizes[1][0]  # two columns from four on
    assert sizes[3][1] > sizes[2][1]


def written(path: Path) -> list[str]:
    """The texts of an SVG drawing, in order, as they are written."""
    return [html.unescape(text).strip() for text in re.findall(r"<text[^>]*>([^<]*)<", path.read_text())]


def test_labels_of_any_kind(tmp_path: Path) -> None:
    """They stand there as they are: no formulas between dollar signs, and the long ones cut."""
    odd = [("$a$ ^ \\frac{1}", 0.5), ("a very long label " * 10, 0.3), ("x" * 200, 0.2), ("", 0.0)]
    answer = plots.Row(toy.random_image(), "odd $name$.png", odd)
    ranking = plots.Ranking("a $ sign", [(toy.random_image(), 0.1)])
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # text as text
        texts = written(plots.draw_answer([answer], tmp_path / "odd.svg"))
        ranked = written(plots.draw_rankings([ranking], tmp_path / "rank.svg", model="a_b$c$"))
    long = "a very long label a very long…"
    assert texts == ["$a$ ^ \\frac{1}", "50%", long, "30%", "x" * 33 + "…", "20%", "0.0%", "odd $name$.png"]
    assert ranked == ["“a $ sign”", "0.10", "a_b$c$", "cosine of text and image"]


def test_rankings_have_a_line_for_each_query(tmp_path: Path) -> None:
    ranking = plots.Ranking("a cat", [(toy.random_image(i), 0.3 - i / 10) for i in range(3)])
    one, two = (Image.open(plots.draw_rankings([ranking] * n, tmp_path / f"{n}.png")) for n in (1, 2))
    assert two.width == one.width
    assert two.height > one.height


@pytest.mark.parametrize("ending", ["jpg", "pdf", "svg"])
def test_the_suffix_names_the_format(tmp_path: Path, ending: str) -> None:
    path = plots.draw_answer(rows(1), tmp_path / "new" / f"answer.{ending}")
    assert path.stat().st_size > 1000
    assert list(path.parent.iterdir()) == [path]  # nothing half-written stays beside it


def test_an_unknown_suffix_is_refused_before_drawing(tmp_path: Path) -> None:
    with pytest.raises(TandemError, match=r"\.gif"):
        plots.draw_answer(rows(1), tmp_path / "answer.gif")
    assert not list(tmp_path.iterdir())


def cells(count: int, size: tuple[int, int] = (60, 40)) -> list[plots.Cell]:
    return [plots.Cell(Image.new("RGB", size, (200, 0, 0)), f"{i}  50%", f"{i}.jpg") for i in range(count)]


@pytest.mark.parametrize("count", [2, 10, pytest.param(60, marks=pytest.mark.slow)])
def test_rows_of_a_contact_sheet_are_as_wide_as_the_page(tmp_path: Path, count: int) -> None:
    path = plots.draw_contact_sheet(cells(count), tmp_path / "sheet.png", title="a $ sign", note="of 60")
    red = colored(path, "#c80000")
    rows = np.flatnonzero(np.diff(red.any(axis=1).astype(int)) == 1) + 2
    columns = [np.flatnonzero(red[row]) for row in rows]
    assert len({int(row[0]) for row in columns}) == 1
    whole = {int(row[-1]) for row in columns[:-1]}
    assert len(whole) <= 2  # all but the last end at the right margin, to the pixel that rounding takes
    runs = sum(int((np.diff(red[row].astype(int)) == 1).sum()) for row in rows)
    assert runs == count  # every image is there once


def test_a_cell_keeps_its_place_when_the_image_cannot_be_read(tmp_path: Path) -> None:
    with_gap = [*cells(1), plots.Cell(None, "2", "gone.jpg"), *cells(1)]
    path = plots.draw_contact_sheet(with_gap, tmp_path / "sheet.png", title="x")
    framed, red = colored(path, plots.TRACK), colored(path, "#c80000")
    row = int(np.flatnonzero(framed.any(axis=1))[5])
    empty, full = np.flatnonzero(framed[row]), np.flatnonzero(red[row])
    assert empty.size > 100
    assert (full < empty[0]).any()
    assert (full > empty[-1]).any()


def test_contact_sheets_of_odd_images_and_of_none(tmp_path: Path) -> None:
    odd = [Image.new("RGB", size) for size in ((4000, 20), (20, 4000), (1, 1))]
    path = plots.draw_contact_sheet(
        [plots.Cell(image, "x" * 300, "y" * 300) for image in odd], tmp_path / "odd.png", title="t" * 500
    )
    assert max(Image.open(path).size) < 4000
    assert plots.draw_contact_sheet([], tmp_path / "none.png", title="nothing").is_file()


def test_odd_names_of_files_are_drawn(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 and characters that command terminals: spelled out, as on the command line."""
    names = [os.fsdecode(b"caf\xe9.jpg"), "two\nlines.jpg", "red\x1b[31m.jpg"]
    sheet = [plots.Cell(Image.new("RGB", (60, 60)), "1", name) for name in names]
    assert plots.draw_contact_sheet(sheet, tmp_path / "sheet.png", title=names[0]).is_file()
    assert [_drawable(name) for name in names] == [r"caf\xe9.jpg", r"two\nlines.jpg", r"red\x1b[31m.jpg"]


def islands(count: int) -> tuple[np.ndarray, np.ndarray, list[plots.Region]]:
    """Points around as many middles on a line, their regions, and these regions."""
    middles = np.stack([np.linspace(-1, 1, count), np.zeros(count)], axis=1)
    region_of = np.repeat(np.arange(count, dtype=np.int32), 50)
    places = middles[region_of] + np.random.default_rng(0).normal(0, 0.02, (50 * count, 2))
    regions = [plots.Region(f"region {i}", 50, *middles[i]) for i in range(count)]
    return places.astype(np.float32), region_of, regions


@pytest.mark.slow
def test_a_map_shows_the_image_of_each_region_where_it_is(tmp_path: Path) -> None:
    places, region_of, regions = islands(3)
    regions[1] = regions[1]._replace(name=None)
    shades = ("#c80000", "#00c800", "#0000c8")
    pins = [plots.Pin(Image.new("RGB", (64, 40), shade), *regions[i][2:], i) for i, shade in enumerate(shades)]
    path = plots.draw_map(places, region_of, regions, pins, tmp_path / "map.png", title="a $ map", note="150")
    middles = [float(np.flatnonzero(colored(path, shade).any(axis=0)).mean()) for shade in shades]
    width = Image.open(path).width
    assert middles[1] == pytest.approx(width / 2, abs=width / 50)
    assert middles[1] - middles[0] == pytest.approx(middles[2] - middles[1], rel=0.1)
    assert middles[0] < width / 6


@pytest.mark.slow
def test_images_of_a_map_never_cover_one_another(tmp_path: Path) -> None:
    """Thirty regions at one spot: those that have room around it are shown, whole."""
    places, region_of, regions = islands(30)
    crowded = [region._replace(x=0.0, y=0.0) for region in regions]
    pins = [plots.Pin(Image.new("RGB", (40, 40), (200, 0, 0)), 0.0, 0.0, i) for i in range(30)]
    path = plots.draw_map(places, region_of, crowded, pins, tmp_path / "map.png", title="crowded")
    from tandem.plots import map as maps
    from tandem.plots.page import DPI

    red = int(colored(path, "#c80000").sum())
    one = (maps.PIN * DPI - 4) ** 2  # without its frame
    assert 8 * one < red < 31 * one
    assert abs(red / one - round(red / one)) < 0.2 * red / one


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.slow_if(1, 2)
def test_a_map_of_hardly_anything(tmp_path: Path, count: int) -> None:
    places, region_of = np.zeros((count, 2), dtype=np.float32), np.zeros(count, dtype=np.int32)
    regions = [plots.Region("all there is", count, 0.0, 0.0), plots.Region("empty", 0, 0.0, 0.0)]
    assert plots.draw_map(places, region_of, regions, [], tmp_path / "map.png", title="").is_file()


@pytest.mark.slow
def test_the_callers_matplotlib_is_left_alone(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_plots
from pathlib import Path
test_plots.plots.draw_answer(test_plots.rows(1), Path({str(tmp_path / "a.png")!r}))
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sentences_below_images_are_wrapped_and_make_room(tmp_path: Path) -> None:
    from tandem.plots.sheet import MOST_LINES, _detail

    sentence = "the lighthouse at the end of the pier in evening light"
    cell = plots.Cell(toy.random_image(1), "0.5", sentence)
    assert len(_detail(cell, 1.5, wrapped=False)) == 1
    lines = _detail(cell, 1.5, wrapped=True)
    assert " ".join(lines) == sentence
    assert max(map(len, lines)) <= 20
    book = _detail(plots.Cell(None, "0.5", "word " * 500), 1.5, wrapped=True)
    assert (len(book), book[-1][-1]) == (MOST_LINES, "…")
    assert _detail(plots.Cell(None, "", ""), 1.5, wrapped=True) == [""]
    heights = []
    for wrapped in (False, True):
        path = plots.draw_contact_sheet([cell] * 2, tmp_path / "s.png", title="x", wrapped=wrapped)
        with Image.open(path) as sheet:
            heights.append(sheet.height)
    assert heights[1] > heights[0]
