"""What a page says of the relevance of the model that ships: each figure under its own head."""

import relevance

FIGURES = {
    "auc_present_emptied": 0.701, "auc_present_removed": 0.602, "best_is_own": 0.25, "best_matches": 0.31,
    "mean_probability_best": 0.41, "match_rate_best": 0.42, "ece_best": 0.043, "ece_of_half": 0.054,
    "mean_probability_prior": 0.65, "match_rate_prior": 0.66, "ece_prior": 0.077,
}  # fmt: skip


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_figure_stands_under_its_own_head() -> None:
    low = {**FIGURES, "auc_present_emptied": 0.699}
    part = {"pairs_auc": 0.83, "collections": {"1000": FIGURES, "10": low}}
    figures = {"queries": {"captions": part}}
    head, rule, *rows = map(cells, relevance.tables(figures, [])[:4])
    assert len(head) == len(rule) == 12
    assert dict(zip(head[:9], rows[0], strict=False)) == {
        "query": "captions", "images": "1,000", "best hit is its own": "25.0%", "area": "0.701", "shown": "yes",
        "own removed": "0.602 (0.62)", "stated": "41.0%", "true": "42.0%", "error": "0.043 (0.054)",
    }  # fmt: skip
    assert head[9:] == ["stated, a fifth without a match", "true", "error"]
    assert rows[0][9:] == ["65.0%", "66.0%", "0.077"]
    assert rows[1][:5] == ["captions", "10", "25.0%", "0.699", "no"]


def test_labels_and_what_people_may_type_follow() -> None:
    labels = {"count": 1200, "auc": 0.71, "pairs_auc": 0.72, "ece": 0.03, "true_above_half": 0.4,
              "false_above_half": 0.05}  # fmt: skip
    typed = [relevance.Typed("a dog", 0.8, 0.5, 0.9)]
    lines = relevance.tables({"queries": {}, "labels": labels}, typed)
    (said,) = (line for line in lines if line.startswith("Labels by themselves"))
    assert "(1,200 of one to three words" in said
    assert "area 0.710, of the cosines alone 0.720; error 0.030" in said
    assert "above 50% are 40.0% of the true and 5.0% of the false ones" in said
    assert cells(lines[-1]) == ["a dog", "80.0%", "50.0%", "90%"]
    assert cells(lines[-3]) == ["what people may type", "stated for the best", "mean of ten", "correct"]
