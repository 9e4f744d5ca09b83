"""What the page claims at the edges: what counts as a peer, as faster, as reached, and as busy."""

from pathlib import Path

import pytest
from comparison import page
from comparison.results import Measured, Results
from comparison.rows import BASE, SEARCH_MS

MACHINE = {
    "processor": "A Processor", "instructions": ["avx2"], "cores": 2, "threads": 2, "memory_gb": 8, "system": "Linux 6",
    "python": "3.11",
}  # fmt: skip
ABOUT = {"command": "make bench", "photos": "crops", "weights": "random weights", "int8": ""}
WHEN = "2030-01-02T03:04:05"


def section(home: Path, *rows: Measured) -> str:
    results = Results(home / "results.json", MACHINE)
    for row in rows:
        results.keep(row)
    return page.section(results, ABOUT)


@pytest.mark.parametrize(("share", "busy"), [(0.1, False), (0.101, True)])
def test_others_may_use_a_tenth_of_the_cores(share: float, busy: bool) -> None:
    assert Measured("images", WHEN, others_during=share).is_busy() is busy


def test_a_side_that_pads_as_the_original_does_is_no_peer(tmp_path: Path) -> None:
    """It does more work than the same library does by itself."""
    padded = "transformers (77 tokens) float32"
    row = Measured("prompts", WHEN, {BASE: [1.0], padded: [3.0], "tandem float32": [2.0]})
    assert page.strongest(row, "float32") == BASE
    text = section(tmp_path, row)
    assert f"| **tandem float32** | 2.00 (2.00 to 2.00) | 2.00x (2.00 to 2.00) | 2.00x (2.00 to 2.00), {BASE} |" in text
    assert "At the same precision, in none of these rows." in text


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ([0.9, 0.95, 1.2], f"{BASE} is 1.05 times as fast as tandem float32 (0.93 to 1.08)"),  # in the median
        ([1.0, 1.0, 1.0], f"{BASE} is 1.00 times as fast as tandem float32 (1.00 to 1.00)"),
        ([0.9, 1.01, 1.2], "At the same precision, in none of these rows."),
    ],
)
def test_a_peer_is_faster_by_the_median_of_the_rounds(ours: list[float], said: str, tmp_path: Path) -> None:
    row = Measured("images", WHEN, {BASE: [1.0, 1.0, 1.0], "tandem float32": ours})
    assert said in section(tmp_path, row)


def test_a_search_is_judged_by_what_is_aimed_at(tmp_path: Path) -> None:
    assert SEARCH_MS == 60
    row = Measured("search", WHEN, {"tandem float32": [60.4], "tandem int8": [60.0]})
    lines = [line for line in section(tmp_path, row).splitlines() if "at most 60 ms" in line]
    assert [line.split("|")[2].strip() for line in lines] == ["tandem float32", "tandem int8"]
    assert [line.split("|")[6].strip() for line in lines] == ["**no**", "yes"]


def test_the_busiest_moment_of_all_rows_is_said(tmp_path: Path) -> None:
    rows = [
        Measured(key, WHEN, {"tandem float32": [1.0]}, others_before=before, others_during=during)
        for key, before, during in (("images", 0.01, 0.08), ("image", 0.04, 0.02), ("prompts", 0.02, 0.03))
    ]
    text = section(tmp_path, *rows)
    assert "Other processes used at most 4% of the cores before a row and 8% during one." in text
