"""From results to a page: statistics, what is claimed, what is refused, and what of the page is kept."""

import json

import numpy as np
import pytest
from comparison import chart, materials, page
from comparison.materials import Materials, prompts
from comparison.page import BEGIN, END, Refused, check_writable, refreshed, section
from comparison.results import Measured, Results
from comparison.rows import ROWS, chosen
from comparison.spread import agreement, ratios, spread

MACHINE = {
    "processor": "A Processor", "instructions": ["avx2"], "cores": 2, "threads": 2, "memory_gb": 8, "system": "Linux 6",
    "python": "3.11",
}  # fmt: skip
ABOUT = {"command": "make bench", "photos": "crops", "weights": "random weights", "int8": ""}


def row(key: str = "images", busy: float = 0.0, **values: list[float]) -> Measured:
    named = {name.replace("_", " "): list(rounds) for name, rounds in values.items()}
    versions = {name: {"transformers": "5.0", "torch": "2"} for name in named}
    return Measured(key, "2030-01-02T03:04:05", named, versions=versions, others_during=busy)


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "results.json", MACHINE)


def test_medians_stand_between_their_quartiles():
    found = spread([5.0, 1.0, 3.0, 2.0, 4.0])
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)
    assert spread([7.0]).low == spread([7.0]).high == 7.0


def test_ratios_are_taken_round_by_round():
    """A round in which the machine was half as fast changes no ratio."""
    found = ratios([20.0, 10.0, 20.0], [10.0, 5.0, 10.0])
    assert (found.low, found.median, found.high) == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="as many rounds"):
        ratios([1.0], [1.0, 2.0])


def test_agreement_sees_through_what_all_vectors_have_in_common():
    """Vectors that point the same way agree by their cosine, even those of other images."""
    rng = np.random.default_rng(0)
    vectors = 10 + rng.normal(size=(8, 16))
    plain, centred = agreement(vectors[::-1], vectors)
    assert plain > 0.95
    assert centred < 0.5
    assert agreement(3 * vectors, vectors) == pytest.approx((1.0, 1.0))
    with pytest.raises(ValueError, match="expected vectors of shape"):
        agreement(vectors[:2], vectors)


def test_only_the_part_between_the_markers_changes():
    text = f"# Benchmarks\n\nby hand\n\n{BEGIN}\nold\n{END}\n\nby hand, too\n"
    assert refreshed(text, "new\n") == f"# Benchmarks\n\nby hand\n\n{BEGIN}\nnew\n{END}\n\nby hand, too\n"
    with pytest.raises(Refused, match="expected the lines"):
        refreshed("# Benchmarks\n", "new")


def test_figures_of_a_busy_machine_are_refused(results):
    with pytest.raises(Refused, match="nothing has been measured"):
        check_writable(results)
    results.keep(row(busy=0.05, transformers_float32=[1.0]))
    check_writable(results)
    results.keep(row("image", busy=0.31, transformers_float32=[1.0]))
    with pytest.raises(Refused, match=r"image \(31%\): no page is written"):
        check_writable(results)


def test_results_are_kept_row_by_row_and_read_again(results, tmp_path):
    kept = row(transformers_float32=[1.0, 2.0])
    kept.agreement = {"transformers float32": (1.0, 0.99)}
    results.keep(kept)
    assert Results(tmp_path / "results.json", MACHINE).rows == {"images": kept}
    with pytest.raises(ValueError, match=r"measured elsewhere \(threads differ\); give --fresh"):
        Results(tmp_path / "results.json", {**MACHINE, "threads": 1})


def test_rows_of_other_settings_are_not_mixed_into_a_page(results):
    """Photos, weights and libraries decide what a figure means; the commit is said beside it instead."""
    old = row(tandem_float32=[1.0])
    old.settings, old.versions = {"photos": "a", "model": "b"}, {"tandem float32": {"openvino": "1"}}
    results.keep(old)
    same = ({"images": {"photos": "a", "model": "b"}}, {"tandem float32": {"openvino": "1"}})
    results.check(*same, anew=[])
    for settings, versions, said in (
        ({"images": {"photos": "c", "model": "b"}}, same[1], "photos in images"),
        ({"images": {"photos": "a", "model": "c"}}, same[1], "model in images"),
        (same[0], {"tandem float32": {"openvino": "2"}}, "openvino 1 in images"),
    ):
        with pytest.raises(ValueError, match=f"{said}.*--rows images, or everything with --fresh"):
            results.check(settings, versions, anew=[])
        results.check(settings, versions, anew=["images"])


def test_a_row_of_another_day_or_commit_says_so(results):
    for key, commit in (("images", "aaa"), ("image", "bbb"), ("prompts", "bbb")):
        made = row(key, tandem_float32=[1.0, 1.0], transformers_float32=[1.0, 1.0])
        made.commit, made.when = commit, "2030-01-02T03:04:05" if commit == "aaa" else "2030-01-03T03:04:05"
        results.keep(made)
    text = section(results, ABOUT)
    assert "on 2030-01-03, Tandem at commit bbb, but for rows that say another day or commit" in text
    assert text.count("Measured on 2030-01-02, Tandem at commit aaa.") == 1
    assert "Measured on 2030-01-03" not in text


def test_int8_of_drawn_weights_is_called_that_under_the_table_of_aims(results):
    results.keep(row(tandem_int8=[1.0]))
    text = section(results, {**ABOUT, "int8": page.int8_note(["vit-b-32"])})
    aims = text.partition("### What is aimed at")[2].partition("###")[0]
    assert "no promise of `tandem quantize` is kept" in aims
    assert page.int8_note([]) == ""


def folder_of(path, content):
    path.mkdir()
    (path / "model.safetensors").write_bytes(content)
    return path


def test_what_is_made_of_one_model_is_not_taken_for_another(tmp_path):
    one, two = folder_of(tmp_path / "one", b"1"), folder_of(tmp_path / "two", b"2")
    first, second, drawn = (Materials(tmp_path, models=models) for models in ({"vit-b-32": one}, {"vit-b-32": two}, {}))
    assert len({each.scratch("vit-b-32", "tandem") for each in (first, second, drawn)}) == 3
    assert first.scratch("vit-b-32", "tandem") == Materials(tmp_path, models={"vit-b-32": one}).scratch(
        "vit-b-32", "tandem"
    )
    assert len({str(each.settings(ROWS["mobileclip"])) for each in (first, second, drawn)}) == 3
    assert first.settings(ROWS["rn50"]) == second.settings(ROWS["rn50"])
    (one / "model.safetensors").write_bytes(b"others")
    assert first.scratch("vit-b-32", "tandem") != Materials(tmp_path, models={"vit-b-32": one}).scratch(
        "vit-b-32", "tandem"
    )
    with pytest.raises(ValueError, match=r"--model: vit-b-32: .*three is not a folder"):
        Materials(tmp_path, models={"vit-b-32": tmp_path / "three"})


def test_photos_of_the_user_are_told_apart_and_large_ones_are_crops_in_any_case(tmp_path, monkeypatch):
    monkeypatch.setattr(materials, "PHOTOS", 1)
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(b"")
    a, b, crops = (Materials(tmp_path, photos) for photos in (tmp_path / "a", tmp_path / "b", None))
    assert len({each.settings(ROWS["files"])["photos"] for each in (a, b, crops)}) == 3
    assert a.settings(ROWS["large"]) == b.settings(ROWS["large"]) == crops.settings(ROWS["large"])
    assert (
        "1 JPEGs of a folder of photos; those of 12 megapixels, and what int8 is calibrated with: crops"
        in a.photos_note()
    )
    with pytest.raises(ValueError, match="expected at least 1 JPEGs, found 0"):
        Materials(tmp_path, folder_of(tmp_path / "none", b""))


def test_no_prompt_is_timed_twice():
    """Equal texts are encoded once by some, and each by others."""
    assert len(set(Materials.prompts(2000))) == 2000


def test_the_section_says_what_was_measured_and_where_a_peer_wins(results):
    images = row(
        transformers_float32=[10.0, 10.0, 12.0],
        tandem_float32=[20.0, 20.0, 24.0],
        tandem_int8=[60.0, 50.0, 60.0],
    )
    images.values |= {"optimum-intel int8": [66.0, 55.0, 66.0], "optimum-intel float32": [16.0, 16.0, 16.0]}
    images.missing = {"open_clip float32": "ModuleNotFoundError: No module named 'torchvision'"}
    results.keep(images)
    text = section(results, ABOUT)
    assert "A Processor (avx2), 2 of 2 cores" in text
    assert (
        "| **tandem float32** | 20.0 (20.0 to 22.0) | 2.00x (2.00 to 2.00) | 1.25x (1.25 to 1.38), optimum-intel"
        in text
    )
    assert "| tandem int8 | transformers float32 | 5x | 5.00x (5.00 to 5.50) | yes |" in text
    assert "optimum-intel int8, the strongest peer | 1.2x | 0.91x (0.91 to 0.91) | **no** |" in text
    assert "optimum-intel int8 is 1.10 times as fast as tandem int8 (1.10 to 1.10)" in text
    assert "the strongest peer in bfloat16 | 1.2x |  | not measured |" in text
    assert "- open_clip float32 (images): ModuleNotFoundError" in text
    assert "- ViT-B/32, one photo classified, whole process: not measured." in text


def test_seconds_are_better_when_they_are_fewer(results):
    results.keep(row("photo", transformers_float32=[5.0, 5.0], tandem_float32=[0.5, 0.5], tandem_bfloat16=[1.0, 1.0]))
    text = section(results, ABOUT)
    assert "| tandem float32 | transformers float32 | 8x | 10.00x (10.00 to 10.00) | yes |" in text
    assert "At the same precision, in none of these rows." in text


def test_what_quantising_costs_is_in_points(results):
    mini = row("mini", tandem_float32=[40.0, 20.0], tandem_int8=[39.9, 19.3])
    mini.notes = ["Food, top1", "Flickr8k, recall@10"]
    results.keep(mini)
    text = section(results, ABOUT)
    assert "| Food, top1 | 40.00% | 39.90% | -0.10 |" in text
    assert "| within 0.5 points | -0.70 | **no** |" in text


def test_the_chart_has_a_bar_for_each_side(results, tmp_path):
    results.keep(row(transformers_float32=[10.0, 12.0], tandem_float32=[20.0, 21.0]))
    chart.draw(results, tmp_path / "peers.svg")
    drawn = (tmp_path / "peers.svg").read_text()
    assert drawn.startswith("<?xml")
    chart.draw(results, tmp_path / "more.svg")
    results.keep(row("image", transformers_float32=[10.0, 12.0], tandem_float32=[20.0, 21.0]))
    chart.draw(results, tmp_path / "more.svg")
    assert (tmp_path / "more.svg").read_text().count("<path") > drawn.count("<path")


def test_a_page_is_written_in_its_place_only(results, tmp_path):
    results.keep(row(transformers_float32=[10.0, 12.0], tandem_float32=[20.0, 21.0]))
    target = tmp_path / "benchmarks.md"
    target.write_text(f"by hand\n{BEGIN}\n{END}\nby hand\n")
    page.write(target, section(results, ABOUT))
    text = target.read_text()
    assert text.startswith(f"by hand\n{BEGIN}\nMeasured by `make bench`")
    assert text.endswith(f"{END}\nby hand\n")
    assert json.loads((tmp_path / "results.json").read_text())["machine"] == MACHINE


def test_rows_are_chosen_by_name():
    assert [each.key for each in chosen("files, images")] == ["images", "files"]
    assert len(chosen("")) > 10
    with pytest.raises(ValueError, match=r"rows: expected some of images, .*, got 'image32'"):
        chosen("image32")


def test_prompts_differ_and_are_short():
    made = prompts(100, lambda texts: [len(text.split()) for text in texts])
    assert len(set(made)) == 100
    assert max(len(text.split()) for text in made) <= 16
    assert made == prompts(100, lambda texts: [len(text.split()) for text in texts])
    assert made != prompts(100, lambda texts: [len(text.split()) for text in texts], seed=1)
    with pytest.raises(ValueError, match="expected at most 0 prompts, got 1"):
        prompts(1, lambda texts: [17 for _ in texts])
