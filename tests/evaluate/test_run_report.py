"""A run as a folder: what is saved is what is loaded, nothing else is replaced, hostile names stay names."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import evaluations

from tandem.errors import DataError
from tandem.evaluate.report.card import card_document, card_figures
from tandem.evaluate.report.images import images
from tandem.evaluate.run_report import RunReport
from tandem.evaluate.stored_run import FORMAT


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = evaluations.dataset()
    right = np.arange(len(data)) % 4 != 0
    report = evaluations.run(evaluations.zero_shot(data, right), evaluations.zero_shot(data, ~right))
    return replace(report, datasets=(data,)).save(tmp_path_factory.mktemp("runs") / "run")


def test_what_is_saved_is_loaded(saved: Path) -> None:
    data = evaluations.dataset()
    loaded = RunReport.load(saved)
    right = np.arange(len(data)) % 4 != 0
    first = evaluations.zero_shot(data, right)
    assert loaded.model == evaluations.run().model
    assert loaded.environment == evaluations.run().environment
    assert loaded.results[0].figures == first.figures
    assert loaded.results[0].dataset == first.dataset
    assert loaded.results[0].keys == data.keys  # the one that is not UTF-8, too
    assert loaded.results[0].notes == first.notes
    for name, values in first.outcomes.items():
        np.testing.assert_array_equal(loaded.results[0].outcomes[name], values)
    np.testing.assert_array_equal(loaded.results[1].outcomes["top1"], (~right).astype(np.float32))
    assert RunReport.load(saved / "result.json").results[1].figures == loaded.results[1].figures


def test_the_json_has_every_figure_with_n_chance_and_interval(saved: Path) -> None:
    document = json.loads((saved / "result.json").read_text(encoding="utf-8"))
    assert document["format"] == FORMAT
    figure = document["results"][0]["figures"]["top1"]
    assert figure["value"] == pytest.approx(9 / 12)
    assert figure["interval"] == pytest.approx([0.65, 0.85])
    assert (figure["n"], figure["chance"], figure["unit"]) == (12, pytest.approx(1 / 3), "share")
    assert {"tandem", "python", "libraries", "machine"} <= document["environment"].keys()
    assert document["results"][0]["dataset"]["hash"] == evaluations.dataset().hash


def test_the_page_shows_figures_charts_and_pictures_and_escapes_names(saved: Path) -> None:
    page = (saved / "report.html").read_text(encoding="utf-8")
    assert "<b>&hostile" not in page
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=" in page
    assert page.count("data:image/jpeg;base64,") == 3 + 9 + 9 + 3  # at most three of one label and answer
    for words in ("75.0%", "65.0 to 85.0%", "33.3%", "What is taken for what", "Surest and wrong", "favoured"):
        assert words in page, words
    assert page.count("<li>1 image was skipped</li>") == 2  # of each result
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")  # nothing is fetched


def test_the_surest_mistake_stands_first(saved: Path) -> None:
    page = (saved / "report.html").read_text(encoding="utf-8")
    wrong = page[page.index("Surest and wrong") :]
    places = [wrong.index(f"cat/{i}.png") for i in (8, 4)]
    assert places == sorted(places)
    assert wrong.index("onerror") > places[-1]  # image 0 was wrong with the least confidence


def test_images_are_those_of_their_keys_and_mistakes_stand_with_mistakes() -> None:
    """A result on some of the images in another order, as halves and skipped images leave it."""
    data = evaluations.dataset()  # the red of image i is 20 i
    kept = [11, 2, 7, 4, 9, 1]
    given = evaluations.zero_shot(data, np.isin(np.arange(12), [2, 4, 1]))
    outcomes = {name: values[kept] for name, values in given.outcomes.items()}
    result = replace(given, keys=tuple(data.keys[at] for at in kept), outcomes=outcomes)
    shown: list[list[int]] = []
    for section in images(result, data).split("Surest and right"):
        tiles = re.findall(r'base64,([^"]+)" alt="cat/(\d+)\.png"', section)
        reds = [Image.open(io.BytesIO(base64.b64decode(uri))).getpixel((1, 1))[0] for uri, _ in tiles]  # type: ignore[index]
        shown.append([int(number) for _, number in tiles])
        assert reds == pytest.approx([20 * number for number in shown[-1]], abs=6)
        assert section.count("labelled ") == (len(tiles) if len(shown) == 1 else 0)
    assert shown == [[11, 9, 7], [4, 2, 1]]  # the surest first


def test_a_card_says_each_note_once(saved: Path) -> None:
    assert card_figures(card_document(RunReport.load(saved))).count("\n- 1 image was skipped\n") == 1


def test_markdown_has_a_row_for_each_figure(saved: Path) -> None:
    text = (saved / "report.md").read_text(encoding="utf-8")
    assert "| top-1 | 75.0% | 65.0 to 85.0% | 33.3% | 12 |" in text
    assert "| calibration error | 0.050 | 0.010 to 0.090 | – | 12 |" in text
    assert "- 1 image was skipped" in text


def test_a_run_replaces_a_run_and_nothing_else(saved: Path, tmp_path: Path) -> None:
    report = evaluations.run(evaluations.zero_shot(evaluations.dataset(), np.ones(12, bool)))
    report.save(tmp_path / "run")
    report.save(tmp_path / "run")
    assert not list(tmp_path.glob(".*"))
    (tmp_path / "run" / "thesis.md").write_text("years of work")
    with pytest.raises(DataError, match="something else than a run"):
        report.save(tmp_path / "run")
    assert (tmp_path / "run" / "thesis.md").read_text() == "years of work"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "report.md").write_text("mine")
    with pytest.raises(DataError, match="something else than a run"):
        report.save(tmp_path / "photos")


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no result"):
        RunReport.load(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(DataError, match="expected an evaluation"):
        RunReport.load(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps({"format": FORMAT, "version": 2}))
    with pytest.raises(DataError, match=r"^[^(]*: written in a newer format .*: measure it again$"):
        RunReport.load(tmp_path)
    evaluations.run().save(tmp_path / "run")
    (tmp_path / "run" / "outcomes.npz").unlink()
    with pytest.raises(DataError, match="npz is missing"):
        RunReport.load(tmp_path / "run")
    (tmp_path / "run" / "outcomes.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match="damaged"):
        RunReport.load(tmp_path / "run")
