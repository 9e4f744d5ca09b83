"""The pieces of HTML reports: what is hostile stays text, and charts are well-formed."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tandem.evaluate import result
from tandem.evaluate.figures import Figure
from tandem.evaluate.report import charts, drawings, formats, html, listings

SOURCE = Path(result.__file__).parent
HOSTILE = '<script>alert("x")</script>&\'\udcff'
SAFE = "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;&#x27;\\xff"


def test_names_are_escaped_once_wherever_they_stand() -> None:
    tile = html.Tile("data:image/jpeg;base64,AA", HOSTILE, [HOSTILE])
    document = html.page(
        HOSTILE,
        html.section(HOSTILE, html.paragraph(HOSTILE), html.note(HOSTILE), html.listing([HOSTILE])),
        html.table([HOSTILE], [[HOSTILE]], caption=HOSTILE),
        html.figures_table({HOSTILE: Figure(0.5, 10, 0.4, 0.6, 0.1)}, caption=HOSTILE),
        html.gallery([tile]),
        html.folded(HOSTILE, HOSTILE),
        html.drawing(charts.matrix([[1.0]], [HOSTILE], rows=HOSTILE, columns=HOSTILE), HOSTILE),
        lead=HOSTILE,
    )
    assert "<script" not in document
    assert "&amp;lt;" not in document  # escaped twice
    assert document.count(SAFE) >= 16
    assert "default-src &#x27;none&#x27;" in document
    document.encode()


def test_a_chart_is_well_formed_and_names_its_lines() -> None:
    points = [charts.Point(shots, shots / 32, shots / 40, shots / 30) for shots in (1, 2, 4, 8, 16)]
    drawn = charts.curves(
        [charts.Curve("clap", points), charts.Curve("gda", points[:1])],
        x_label="shots",
        y_label="accuracy",
        logarithmic=True,
        level=("zero-shot", 0.3),
    )
    tree = ElementTree.fromstring(drawn)
    words = [element.text for element in tree.iter() if element.text]
    assert {"clap", "gda", "zero-shot", "shots", "16"} <= set(words)
    (first, second) = [element.attrib["points"].split() for element in tree.iter("polyline")]
    assert (len(first), len(second)) == (5, 1)
    heights = [float(place.split(",")[1]) for place in first]
    assert heights == sorted(heights, reverse=True)  # up is less y
    with pytest.raises(ValueError, match="at least one point"):
        charts.curves([charts.Curve("none", [])], x_label="x", y_label="y")


def test_all_points_lie_inside_of_the_chart() -> None:
    for values in ([0.5], [0.0, 1.0], [0.421, 0.4213, 0.4216]):
        drawn = charts.curves(
            [charts.Curve("", [charts.Point(10.0**i, y) for i, y in enumerate(values)])], x_label="C", y_label="y"
        )
        for circle in ElementTree.fromstring(drawn).iter("circle"):
            assert 0 <= float(circle.attrib["cx"]) <= charts.WIDTH
            assert 0 <= float(circle.attrib["cy"]) <= charts.HEIGHT


def test_the_matrix_shows_whole_names_and_shares() -> None:
    tree = ElementTree.fromstring(charts.matrix([[0.75, 0.25], [0, 1]], ["a" * 40, "b"], rows="true", columns="given"))
    assert f"{'a' * 40} → b: 25.0%" in [title.text for title in tree.iter("title")]


def test_figures_as_text() -> None:
    share = Figure(0.4216, 10_000, 0.412, 0.4312, 0.005)
    assert (formats.value_text(0.4216), formats.interval_text(share), formats.chance_text(share)) == (
        "42.2%", "41.2 to 43.1%", "0.5%",
    )  # fmt: skip
    assert formats.value_text(0.0005) == "0.05%"
    assert formats.value_text(-0.0125, "difference") == "-1.2 points"
    assert formats.value_text(12.0, "rank") == "12"
    assert formats.chance_text(Figure(0.05, 10, 0.0, 0.1)) == "–"


def test_every_stored_table_is_described_and_shown() -> None:
    """What a task keeps beside its figures is no dead weight."""
    code = "".join(path.read_text() for path in (SOURCE / "report").glob("*.py"))
    described = re.findall(r"^- `(\w+)`", str(result.__doc__), re.MULTILINE)
    assert len(set(described)) == len(described) > 10
    unread = [name for name in described if f'"{name}"' not in code]
    assert not unread
    favoured = {"class": "boat", "share": 0.5, "true_share": 0.25, "share_after_correction": 0.3}
    assert "30.0%" in listings.favoured_names({"class_prior": [favoured]})
    rows = [{"method": "clap", "shots": 2, "draws": 3, "value": 0.5, "of_draws": [0.375, 0.5, 0.625]}]
    drawn = listings.draws({"few_shot": rows})
    assert all(each in drawn for each in ("37.5%", "50.0%", "62.5%"))
    fitted = {"of_halves": [2.0, 2.25], "log_loss_before": 1.5, "log_loss_after": 1.25}
    bins = [{"confidence": 0.9, "accuracy": 0.5, "n": 4}]
    assert "log loss from 1.500 to 1.250" in drawings.calibration_curve({"calibration": bins, "temperature": fitted})
