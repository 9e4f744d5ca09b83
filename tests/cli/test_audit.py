"""`tandem audit`: the table, the report, wrong usage, Ctrl-C, unreadable images."""

import json
from pathlib import Path

import pytest
from support import toy
from support.commands import Run, one_line

from tandem.audit import drawing
from tandem.audit.checks import position
from tandem.audit.image_sample import LIMIT
from tandem.audit.protocol import Subject
from tandem.audit.table import TESTS


@pytest.fixture(autouse=True)
def small_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "SIDE", 64)


@pytest.mark.slow
def test_a_whole_audit_from_end_to_end(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    groups = tmp_path / "groups.json"
    groups.write_text('{"attributes": {"cats": ["a cat"], "dogs": ["a dog"]}, "words": ["good", "bad", "loud"]}')
    # Everything but corruptions, which take as long as all the others.
    only = ",".join(name for name in TESTS if name != "corruptions")
    done = tandem("audit", model_folder, "--quick", "--only", only, "--groups", groups, "--out", tmp_path / "report")
    assert done.code == 0, done.err
    assert {row[0] for row in done.rows} == set(TESTS) - {"corruptions"}
    assert all(len(row) == 7 for row in done.rows)
    by_name = {(row[0], row[1]): row for row in done.rows}
    assert by_name["counting", "right number"][4:6] == ["20.0%", "35"]
    for row in done.rows:
        float(row[2].removesuffix("%").removesuffix(" points"))  # the verdict has its own column
    document = json.loads((tmp_path / "report" / "audit.json").read_text())
    assert document["complete"]
    assert document["images"]["source"] == "scenes drawn by Tandem"
    assert [test["name"] for test in document["tests"]] == [name for name in TESTS if name != "corruptions"]
    for test in document["tests"]:
        assert test["measures"]
        assert test["chance"]
        assert test["not_for"]
        for figure in test["figures"]:
            assert figure["n"] > 0
            assert figure["interval"][0] <= figure["value"] + 1e-6
            assert figure["value"] <= figure["interval"][1] + 1e-6
    assert "data:image/jpeg" in (tmp_path / "report" / "audit.html").read_text()
    assert "audit.html" in done.err


def test_subgroups_alone_need_groups(tandem: Run, model_folder: str) -> None:
    done = tandem("audit", model_folder, "--only", "subgroups")
    assert (done.code, done.out) == (2, "")
    assert "--groups" in done.err


@pytest.mark.slow
def test_json_is_the_report_and_a_seed_repeats_it(tandem: Run, model_folder: str) -> None:
    arguments = ("audit", model_folder, "--quick", "--only", "counting", "--json")
    first, again, other = (tandem(*arguments, "--seed", seed).json["tests"][0]["figures"] for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.slow
def test_unreadable_images_are_named_and_the_code_says_so(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    toy.write_images(tmp_path, 5)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    done = tandem("audit", model_folder, "--images", tmp_path, "--only", "near-duplicates")
    assert done.code == 1
    assert "broken.jpg" in done.err
    assert "consistency" in done.err
    assert {row[5] for row in done.rows} == {"5"}


def test_ctrl_c_keeps_finished_tests(
    tandem: Run, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(subject: Subject) -> None:
        raise KeyboardInterrupt  # a real signal would end a process of pytest-xdist

    monkeypatch.setattr(position, "measure", interrupted)
    out = tmp_path / "report"
    done = tandem("audit", model_folder, "--quick", "--only", "counting,position,negation", "--out", out)
    assert done.code == 130
    assert {row[0] for row in done.rows} == {"counting"}
    assert "1 of 3 tests" in done.err
    document = json.loads((out / "audit.json").read_text())
    assert (document["complete"], document["pending"]) == (False, ["position", "negation"])
    assert "Interrupted" in (out / "audit.html").read_text()


def test_ctrl_c_before_the_first_test_has_ended_is_no_error(
    tandem: Run, model_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(subject: Subject) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(position, "measure", interrupted)
    done = tandem("audit", model_folder, "--quick", "--only", "position")
    assert (done.code, done.rows) == (130, [])
    assert "tests were finished" not in done.err


def test_tests_are_listed(tandem: Run) -> None:
    assert [row[0] for row in tandem("audit", "--list").rows] == list(TESTS)
    assert all(test["not_for"] for test in tandem("audit", "--list", "--json").json["tests"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--only", "countin"), "did you mean 'counting'"),
        (("--only", ","), "at least one"),
        (("--seed", "-1"), "from 0 to"),
        (("--layout", "folder"), "--layout goes with --images"),
        (("--no-labels",), "--images"),
        (("--groups", "absent.json"), "no such file"),
        (("--images", "absent"), "no such file or folder"),
        (("--limit", "0"), "at least 1"),
    ],
)
def test_wrong_usage_is_one_line(arguments: tuple[str, ...], said: str, tandem: Run, model_folder: str) -> None:
    assert said in one_line(tandem("audit", model_folder, *arguments))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "expected JSON such as"),
        ("[]", "expected attributes"),
        ('{"attributes": {"a": "x"}, "words": ["u", "v"]}', "at least two"),
        ('{"attributes": {"a": "x", "b": 3}, "words": ["u", "v"]}', "attributes: b: expected a list of texts"),
        ('{"attributes": {"a": "x", "b": "y"}, "words": ["u"]}', "at least 2 different texts"),
        ('{"attributes": {"a": "x", "b": "y"}, "words": ["u", "v"], "template": "x"}', "exactly once"),
        ('{"attributes": {"a": "x", "b": "y"}, "words": ["u", "v"], "word": 1}', "expected attributes"),
    ],
)
def test_a_wrong_file_of_groups_is_one_line(content: str, said: str, tandem: Run, tmp_path: Path) -> None:
    file = tmp_path / "groups.json"
    file.write_text(content)
    assert said in one_line(tandem("audit", "--groups", file))


def test_a_folder_of_something_else_is_refused_before_anything_is_measured(tandem: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    assert "something else" in one_line(tandem("audit", "--out", tmp_path))


def test_the_help_says_how_many_photos_are_taken(tandem: Run) -> None:
    assert f"at most N photos (default: {LIMIT})" in " ".join(tandem("audit", "--help").out.split())
