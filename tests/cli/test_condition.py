"""`tandem condition`: prompts to a table, a document and a file; what was cut is said."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import conditioning_toys as toys
from support.commands import Run

from tandem.cli.words import texts_of
from tandem.conditioning import CONSUMERS, Conditioner
from tandem.model import SHIPPED

PROMPT = "a (red:1.3) dog"
LONG = "dog " * 60 + "at night"


@pytest.mark.slow
def test_a_table_and_what_was_cut(tandem: Run) -> None:
    outcome = tandem("condition", PROMPT, LONG)
    assert outcome.code == 0
    assert outcome.rows == [[PROMPT, "3", "2", "red 1.3", ""], [LONG, "62", "2", "", ""]]
    assert "states are not written" in outcome.err
    outcome = tandem("condition", PROMPT, LONG, "--long", "truncate", "--plain")
    assert outcome.rows[0][3] == ""
    assert outcome.rows[1][2:] == ["1", "", " ".join(["dog"] * 14 + ["at", "night"])]
    assert "16 words cut: a prompt has at most 46 tokens here" in outcome.err


def test_the_file_holds_what_the_call_gives(tandem: Run, tmp_path: Path) -> None:
    target = tmp_path / "fox.safetensors"
    (tmp_path / "prompts.txt").write_text(f"{PROMPT}\na dog\n")
    outcome = tandem("condition", "--prompts", tmp_path / "prompts.txt", "--negative", "x", "--out", target, "--json")
    assert outcome.code == 0
    document = outcome.json
    assert document["consumer"] == "states"
    assert document["shapes"]["states"] == [2, 48, 192]
    assert document["results"][0]["words"][1] == {"text": "red", "weight": 1.3}
    assert document["results"][1]["cut"] == []
    expected = Conditioner("states", SHIPPED).encode([PROMPT, "a dog"], "x")
    arrays = load_file(target)
    for name in ("states", "pooled", "negative_states", "negative_pooled"):
        np.testing.assert_allclose(arrays[name], getattr(expected, name), atol=1e-6)
    np.testing.assert_array_equal(arrays["clip.token_ids"], expected.towers["clip"].token_ids)
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".txt"] == ["fox.safetensors"]


@pytest.mark.slow
def test_text_encoders_by_name_and_learnt_words(tandem: Run, tmp_path: Path, monkeypatch) -> None:
    from safetensors.numpy import save_file

    monkeypatch.setitem(CONSUMERS, "sd1", toys.consumer("sd1"))
    toys.save(toys.tower("clip_l"), tmp_path / "pipe" / "text_encoder")
    rows = toys.tower("clip_l").tensors["token_embedding.weight"][:2]
    save_file({"emb_params": rows}, tmp_path / "toy.safetensors")
    learnt = ["--embedding", f"gizmo={tmp_path / 'toy.safetensors'}", "--embedding", tmp_path / "toy.safetensors"]
    for place in (["--model", tmp_path / "pipe"], ["--tower", f"clip_l={tmp_path / 'pipe' / 'text_encoder'}"]):
        outcome = tandem("condition", "a gizmo toy", "--for", "sd1", *place, *learnt)
        assert outcome.rows == [["a gizmo toy", "5", "1", "", ""]], outcome.err


def test_forgotten_quotes_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    for words, prompts, said in (
        (["a", "red", "fox"], ["a red fox"], 'encoding one prompt: "a red fox"; quotes keep several apart'),
        (["fox", "dog"], ["fox", "dog"], "encoding 2 prompts: fox, dog; words in quotes are one"),
        (["a fox", "dog"], ["a fox", "dog"], ""),
        (["fox"], ["fox"], ""),
    ):
        assert texts_of(words, "encoding", "prompt") == prompts
        shown = capsys.readouterr().err
        assert said in shown
        assert bool(shown) == bool(said)


def test_mistakes_are_one_line(tandem: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.cli.inputs.MOST_BYTES", 1000)
    for arguments, says in (
        ([], "nothing to encode"),
        (["x", "--for", "sd1", "--model", "tandem-mini"], "width 768 with 12 blocks, got width 192"),
        (
            ["x", "--for", "sdxl"],
            "expected --model M, a diffusers repository or folder, or --tower clip_l=FILE --tower",
        ),
        (["x", "--for", "sdxl", "--tower", "clip_l=f"], "clip_g=FILE, got --tower clip_l"),
        (["x", "--out", tmp_path / "x.npz"], "expected a name ending in .safetensors"),
        (["x", "--out", tmp_path / "gone" / "x.safetensors"], "there is no folder"),
        (["x", "--tower", "clip"], "--tower: expected NAME=FILE"),
        (["x", "--embedding", tmp_path / "gone.pt"], "gone.pt"),
        (["x", "--clip-skip", "40"], "clip_skip: expected 0 to 2"),
        (["a <lora:x:1>"], "asks for weights, not words"),
        (["--prompts", "/dev/zero"], "/dev/zero: expected texts of at most 1,000 bytes in all, found more"),
        (["x", "--for", "(" * 5000], f"expected one of {', '.join(CONSUMERS)}, got '{'(' * 60}'"),
        (["x", "--for", "sdlx"], f"--for: expected one of {', '.join(CONSUMERS)}"),
        (["x", "--for", "sdlx"], "got 'sdlx'; did you mean 'sdxl'?"),
        (["x", "--for", "flux1"], "did you mean 'flux'?"),
    ):
        outcome = tandem("condition", *arguments)
        assert outcome.code == 2
        assert says in outcome.err
        assert len(outcome.err.strip().splitlines()) == 1, outcome.err


def test_existing_files_are_replaced_on_purpose_only(tandem: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for option, name in (("--plot", "holiday.png"), ("--out", "weights.safetensors")):
        target = tmp_path / name
        target.write_bytes(b"precious")
        refused = tandem("condition", "a dog", option, target)
        assert refused.code == 2
        assert f"{target}: there is a file already; say --overwrite to replace it" in refused.err
        assert target.read_bytes() == b"precious"
        assert tandem("condition", "a dog", option, target, "--overwrite").code == 0
        assert target.read_bytes() != b"precious"


def test_json_is_one_document(tandem: Run) -> None:
    assert json.loads(tandem("condition", "x", "--json").out)["missing"] == ""


@pytest.mark.slow
def test_a_drawing_of_words(tandem: Run, tmp_path: Path) -> None:
    outcome = tandem("condition", PROMPT + " BREAK (cat:0.5)", LONG, "--plot", tmp_path / "words.png")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "words.png").stat().st_size > 5000
    many = tandem("condition", "dog " * 700, "--plot", tmp_path / "many.png")
    assert many.code == 2
    assert "expected 1 to 600 words to draw, got 700" in many.err
