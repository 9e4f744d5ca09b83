"""The report: JSON that holds all figures, pages that call chance chance, hostile names, interruptions, folders."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support import evaluations, toy
from support.audit_toys import BagOfWords, Oracle

from tandem.audit import running
from tandem.audit.image_sample import draw_things, sample
from tandem.audit.pages import html_page, markdown_page, summary
from tandem.audit.protocol import About, Example, Finding, Findings, SkippedTest, Subject, Table
from tandem.audit.report import AuditReport
from tandem.audit.result import TestResult
from tandem.errors import DataError, ImageError, TandemError
from tandem.evaluate.figures import Figure
from tandem.evaluate.records import Environment, ModelRecord

HOSTILE = "<script>alert(1)</script>|`"


def empty(*pending: str) -> AuditReport:
    model = ModelRecord(HOSTILE, "f" * 64, "toy", "numpy cpu float32")
    here = Environment("0", "3", {}, "a machine")
    return AuditReport(model, here, "2026-01-01T00:00:00Z", 0, 1.0, "drawn", "0" * 64, "drawn", 4, pending=pending)


def hostile() -> AuditReport:
    at_chance, bad = Figure(0.523, 40, 0.44, 0.61, 0.5), Figure(0.1, 40, 0.02, 0.2, 0.5)
    below = Figure(0.05, 40, 0.0, 0.15, 1 / 6)
    measured = Findings(
        (Finding(f"{HOSTILE} guessed", at_chance), Finding("wrong", bad), Finding("all four", below, one_sided=True)),
        (Example(Image.new("RGB", (8, 8)), HOSTILE, "answer", "asked"),),
        (Table(HOSTILE, ("kind", HOSTILE), ((HOSTILE, at_chance),)),),
        {"words": [HOSTILE]},
        (HOSTILE,),
    )
    about = About(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    return replace(empty("counting"), tests=(TestResult("x", about, measured, 0.1),), not_run=(("y", HOSTILE),))


def test_pages_escape_names_and_call_chance_chance() -> None:
    report = hostile()
    page = html_page(report)
    assert "<script" not in page
    assert "data:image/jpeg;base64," in page
    written = markdown_page(report)
    assert "<script" not in written.replace("\\<script", "")
    for text in (page, written):
        assert "52.3%" not in text  # what was not shown to be above chance is no percentage
        assert "at chance" in text
        assert "not shown to be above chance" in text
        assert "44.0 to 61.0%" in text
        assert "Interrupted" in text
        assert "0.0 to 15.0%" in text
        assert "5.0%" in text.replace("15.0%", "")  # an interval below chance stands with its value
        assert "not above chance" in text
    assert summary(report) == [(HOSTILE, "–", f"{HOSTILE} guessed; all four", "wrong")]


def test_json_holds_every_figure_and_table(tmp_path: Path) -> None:
    folder = hostile().save(tmp_path / "report")
    assert sorted(path.name for path in folder.iterdir()) == ["audit.html", "audit.json", "audit.md"]
    document = json.loads((folder / "audit.json").read_text())
    (test,) = document["tests"]
    assert test["figures"][0] == {
        "name": f"{HOSTILE} guessed",
        "value": 0.523,
        "interval": [0.44, 0.61],
        "n": 40,
        "chance": 0.5,
        "unit": "share",
        "better": "higher",
        "control": False,
        "verdict": "not shown to be above chance",
    }
    assert test["tables"][0]["rows"][0][1]["value"] == 0.523
    assert test["not_for"] == HOSTILE
    assert (document["complete"], document["pending"]) == (False, ["counting"])
    hostile().save(folder)  # its own folder is replaced
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="something else"):
        hostile().save(tmp_path / "other")


def test_finished_tests_survive_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Oracle):
        def texts(self, texts):  # type: ignore[no-untyped-def]
            if any("left" in text for text in texts):
                raise KeyboardInterrupt
            return super().texts(texts)

    seen: list[AuditReport] = []
    subject = Subject(Interrupted(), draw_things(0, 0.1), scale=0.05)
    with pytest.raises(KeyboardInterrupt):
        running.run_tests(subject, empty("binding", "subgroups", "position", "negation"), seen.append)
    assert [test.name for test in seen[-1].tests] == ["binding"]
    assert [name for name, _ in seen[-1].not_run] == ["subgroups"]
    assert seen[-1].pending == ("position", "negation")
    assert seen[-1].figure("binding", "colours: caption for an image").value == 1


def test_a_test_gives_the_same_alone_and_among_others() -> None:
    subject = Subject(BagOfWords(), draw_things(0, 0.1), scale=0.05)
    together = running.run_tests(subject, empty("binding", "position"))
    alone = running.run_tests(subject, empty("position"))
    assert alone.tests[0].as_dict()["figures"] == together.tests[1].as_dict()["figures"]


def test_names_of_tests() -> None:
    assert running.check_names(["position", "binding"]) == ("binding", "position")
    with pytest.raises(TandemError, match="did you mean 'counting'"):
        running.check_names(["countin"])
    with pytest.raises(TandemError, match="at least one"):
        running.check_names([])


def test_a_skipped_test_is_no_error_of_users() -> None:
    assert not issubclass(SkippedTest, TandemError)


@pytest.fixture(scope="module")
def model():  # type: ignore[no-untyped-def]
    from tandem.engine import build
    from tandem.model import Model

    checkpoint = toy.checkpoint()
    return Model(checkpoint, build(checkpoint.config, checkpoint.tensors, engine="openvino"))


@pytest.mark.slow
def test_labelled_images_are_the_reference(model, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for name in ("cat", "dog"):
        toy.write_images(tmp_path / name, 3)
    (tmp_path / "dog" / "broken.png").write_bytes(b"no image")
    plan = running.prepare(model, tmp_path, only=["resolution", "hubness"], quick=True)
    assert (plan.subject.images.reference, plan.subject.images.names) == ("label", ("cat", "dog"))
    report = plan.run()
    assert report.count == 6
    assert [(error.source, type(error)) for error in report.skipped_images] == [("dog/broken.png", ImageError)]
    assert report.figure("resolution", "64 pixels").chance == 0.5
    assert report.as_dict()["failures"][0]["image"] == "dog/broken.png"
    assert not any("drawn" in note for note in report.notes)  # all of them were


def test_a_sample_of_a_data_set_is_drawn_by_the_seed_and_says_so() -> None:
    data = evaluations.dataset()  # the red of image i is 20 i, its class i modulo 3
    found = []
    for seed in (0, 0, 1):
        drawn = sample(data, Oracle(), limit=5, seed=seed)
        assert drawn.notes == (f"5 of 12 images were drawn (seed {seed}).",)
        reds = [image.pixels.getpixel((0, 0))[0] for image in drawn.images.images]  # type: ignore[index]
        assert drawn.images.labels.tolist() == [red // 20 % 3 for red in reds]
        found.append(reds)
    assert found[0] == found[1]
    assert set(found[0]) != set(found[2])
    assert sample(data, Oracle(), limit=12).notes == ()


def test_images_without_labels_are_compared_with_their_own_answers(model, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    toy.write_images(tmp_path, 6)
    plan = running.prepare(model, tmp_path, only=["resolution"], quick=True, limit=5)
    assert plan.subject.images.reference == "own answer"
    assert any("consistency" in note for note in plan.report.notes)
    assert any("5 of 6" in note for note in plan.report.notes)
    report = plan.run()
    assert report.figure("resolution", "64 pixels").value == 1  # of 48 x 40 pixels, it changes nothing
    assert not any("whole" in finding.name for _, finding in report.findings)  # nothing that would look like accuracy
    folders = tmp_path / "folders"
    toy.write_images(folders / "2023", 4)
    toy.write_images(folders / "2024", 4)
    assert running.prepare(model, folders, only=["hubness"]).subject.images.names == ("2023", "2024")
    unlabelled = running.prepare(model, folders, only=["hubness"], labels=False)
    assert unlabelled.subject.images.reference == "own answer"
    assert len(unlabelled.subject.images) == 8
    with pytest.raises(DataError, match="at least 4"):
        running.prepare(model, tmp_path, limit=3)


def test_a_model_may_be_given_by_what_it_is_loaded_from(tmp_path: Path) -> None:
    source = toy.folder(tmp_path / "toy")
    assert running.prepare(source, only=["position"], quick=True).report.model.name == "toy"
