"""Runs side by side: a difference is shown where there is one, and only there; other data is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
from support import evaluations

from tandem.errors import DataError
from tandem.evaluate import comparison
from tandem.evaluate.comparison import compare, holm, sign_flip_p
from tandem.evaluate.figures import Figure
from tandem.evaluate.intervals import Interval
from tandem.evaluate.report.side_by_side import comparison_as_dict, comparison_markdown
from tandem.evaluate.run_report import RunReport

N = 200


def run(right: np.ndarray, name: str = "toy") -> RunReport:
    return evaluations.run(evaluations.zero_shot(evaluations.dataset(len(right)), right), name=name)


def share(of: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(N) < of * N


def test_a_real_difference_is_shown() -> None:
    worse = share(0.5)
    better = worse | share(0.4, seed=1)
    compared = compare([run(worse), run(better, "other")], ["a", "b"])
    (top1, error) = compared.tasks[0].figures
    (other,) = top1.others
    assert other.verdict == "higher"
    assert other.difference is not None
    assert other.difference.value == pytest.approx(better.mean() - worse.mean())
    assert other.difference.low > 0
    assert (other.only_this, other.only_first) == (int((better & ~worse).sum()), 0)
    assert compare([run(better), run(worse)], ["b", "a"]).tasks[0].figures[0].others[0].verdict == "lower"
    assert error.others[0].verdict == "not tested"  # no mean over images
    assert compared.models == ("toy", "other")


def test_noise_is_no_difference() -> None:
    shown = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        a, b = random.random(N) < 0.5, random.random(N) < 0.5
        (figure, _) = compare([run(a), run(b)], ["a", "b"]).tasks[0].figures
        shown += figure.others[0].verdict != "no difference shown"
    assert shown <= 3  # one in twenty is expected
    same = compare([run(share(0.5)), run(share(0.5))], ["a", "b"]).tasks[0].figures[0].others[0]
    assert (same.verdict, same.p, same.only_this) == ("no difference shown", 1.0, 0)


def test_a_run_against_itself_is_said() -> None:
    (note,) = compare([run(share(0.5))] * 2, ["a", "copy"]).notes
    assert note == "a and copy are the same run: nothing can differ"
    assert not compare([run(share(0.5)), run(share(0.6))], ["a", "b"]).notes


def test_several_runs_are_corrected_for_their_number() -> None:
    base = share(0.5)
    moved = base.copy()
    moved[np.flatnonzero(~base)[:9]] = True  # nine and one: p = 0.0215
    moved[np.flatnonzero(base)[:1]] = False
    alone = compare([run(base), run(moved)], ["a", "b"]).tasks[0].figures[0].others[0]
    assert alone.p == pytest.approx(0.0215, abs=1e-4)
    assert alone.verdict == "higher"
    three = compare([run(base), run(moved), run(base), run(base)], ["a", "b", "c", "d"])
    other = three.tasks[0].figures[0].others[0]
    assert (other.p, other.p_corrected) == (alone.p, pytest.approx(3 * 0.0215, abs=3e-4))
    assert other.verdict == "no difference shown"
    assert re.search(r"\| b \|.*\| 0\.064 \| no difference shown \|", comparison_markdown(three))


def test_figures_stand_beside_the_run_that_they_are_of() -> None:
    base = share(0.5)
    better, worse = base | share(0.4, seed=1), base & share(0.4, seed=2)
    text = comparison_markdown(compare([run(base), run(better), run(worse)], ["a", "b", "c"]))
    for name, right, verdict in (("b", better, "higher"), ("c", worse, "lower")):
        assert re.search(rf"\| {name} \| {right.mean():.1%} \|.*\| {verdict} \|", text), text


def test_holm_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_sign_flips_agree_with_counting_all_of_them() -> None:
    for differences in ([0.4, 0.2, -0.1, 0.6, 0.2, 0.0, 0.4, 0.2], [0.4, -0.2, -0.1, 0.6, 0.2, 0.0, -0.4, 0.2]):
        moved = np.array([each for each in differences if each])
        signs = np.array(np.meshgrid(*[[-1, 1]] * len(moved))).reshape(len(moved), -1)
        exact = np.mean(np.abs(moved @ signs) >= abs(moved.sum()) - 1e-12)
        assert sign_flip_p(np.array(differences)) == pytest.approx(exact, abs=0.03)
        assert sign_flip_p(-np.array(differences)) == pytest.approx(exact, abs=0.03)
    assert exact > 0.3
    assert sign_flip_p(np.zeros(5)) == 1.0


def test_a_figure_of_shares_has_a_test_too() -> None:
    data = evaluations.dataset(N)
    random = np.random.default_rng(0)

    def with_recall(values: np.ndarray) -> RunReport:
        result = evaluations.zero_shot(data, share(0.5))
        figure = Figure(float(values.mean()), N, 0.0, 1.0, 0.01)
        return evaluations.run(
            replace(result, figures={"recall@5": figure}, outcomes={"recall@5": values.astype(np.float32)})
        )

    low = random.integers(0, 3, N) / 5
    compared = compare([with_recall(low), with_recall(low + 0.4)], ["a", "b"])
    (other,) = compared.tasks[0].figures[0].others
    assert other.only_this is None
    assert other.p == pytest.approx(1 / 5000)
    assert other.verdict == "higher"


def test_a_difference_needs_both_its_test_and_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    worse = share(0.5)
    runs = [run(worse), run(worse | share(0.4, seed=1))]
    monkeypatch.setattr(comparison, "paired_bootstrap", lambda *_: Interval(0.2, -0.01, 0.4))
    (top1, _) = compare(runs, ["a", "b"]).tasks[0].figures
    assert top1.others[0].p_corrected is not None
    assert top1.others[0].p_corrected < 0.001
    assert top1.others[0].verdict == "no difference shown"


def test_a_figure_that_is_no_mean_of_its_outcomes_is_not_tested() -> None:
    """As a median, whose outcomes are kept, too."""
    result = evaluations.zero_shot(evaluations.dataset(N), share(0.5))
    other = replace(result, outcomes={"top1": share(0.9).astype(np.float32)})
    (figure, _) = compare([evaluations.run(result), evaluations.run(other)], ["a", "b"]).tasks[0].figures
    (found,) = figure.others
    assert (found.verdict, found.p, found.difference) == ("not tested", None, None)


def test_other_data_is_refused_with_the_reason() -> None:
    right = share(0.5)
    data = evaluations.dataset(N)
    relabelled = replace(data, label_sets=tuple((0,) for _ in range(N)))
    with pytest.raises(DataError, match="different data"):
        compare([run(right), evaluations.run(evaluations.zero_shot(relabelled, right))], ["a", "b"])
    fewer = evaluations.zero_shot(data, right)
    fewer = replace(fewer, keys=fewer.keys[1:], outcomes={k: v[1:] for k, v in fewer.outcomes.items()})
    with pytest.raises(DataError, match="1 are in one of them only"):
        compare([run(right), evaluations.run(fewer)], ["a", "b"])
    with pytest.raises(DataError, match="no task on the same data"):
        compare([run(right), evaluations.run()], ["a", "b"])
    with pytest.raises(DataError, match="at least two"):
        compare([run(right)], ["a"])


def test_what_only_one_run_has_is_said_and_settings_that_differ_are_listed() -> None:
    right = share(0.5)
    one, two = evaluations.zero_shot(evaluations.dataset(N), right), evaluations.dataset(6, "more")
    other = replace(one, settings={"templates": ["{}"], "seed": 0})
    more = evaluations.zero_shot(two, np.ones(6, bool))
    compared = compare([evaluations.run(one, more), evaluations.run(other)], ["a", "b|c"])
    assert compared.notes == ("b|c has no zero-shot on more",)
    assert compared.tasks[0].settings == {"templates": (["a photo of a {}."], ["{}"])}
    text = comparison_markdown(compared)
    assert "no difference shown" in text
    assert "b\\|c" in text
    assert "templates differs" in text
    document = comparison_as_dict(compared)
    assert document["tasks"][0]["figures"][0]["others"][0]["verdict"] == "no difference shown"
    assert document["runs"][1]["run"] == "b|c"
