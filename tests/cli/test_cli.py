"""The command line: what each command prints, writes and exits with; every failure is one line."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import toy

from tandem import weights
from tandem.cli import main
from tandem.cli.inputs import find_pictures
from tandem.errors import TandemError
from tandem.model import load

COMMANDS = (
    "classify", "embed", "index", "search", "label", "explore", "migrate", "calibrate",
    "train", "convert", "verify", "models", "demo",
)  # fmt: skip


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toy.folder(tmp_path_factory.mktemp("models") / "toy"))


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    return [str(photo) for photo in toy.pictures(tmp_path / "photos", 3)]


class Outcome:
    """What a command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def tandem(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in this process."""

    def run(*arguments: str | Path) -> Outcome:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:  # argparse leaves by itself
            code = int(leaving.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


def run_process(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tandem", *arguments]
    return subprocess.run(command, check=False, text=True, capture_output=True, **options)


# --- the frame -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, tandem: Any) -> None:
    shown = tandem(command, "--help")
    assert shown.code == 0
    assert f"\n  tandem {command}" in shown.out
    assert "--debug" in shown.out


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "train"])
def test_every_command_that_answers_has_json(command: str, tandem: Any) -> None:
    assert "--json" in tandem(command, "--help").out


@pytest.mark.parametrize("command", ["classify", "embed", "demo"])
def test_model_options(command: str, tandem: Any) -> None:
    shown = tandem(command, "--help").out
    assert all(option in shown for option in ("--model", "--device", "--precision", "--engine"))


def test_nothing_asked_shows_what_there_is(tandem: Any) -> None:
    shown = tandem()
    assert shown.code == 2
    assert all(command in shown.err for command in COMMANDS)


def one_line(outcome: Outcome) -> str:
    """The one line on standard error; nothing on standard output."""
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("tandem: ")
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.err
    return outcome.err


def test_wrong_usage_is_one_line(tandem: Any) -> None:
    assert "tandem classify --help" in one_line(tandem("classify", "--labels", "a,b"))
    assert "--top" in one_line(tandem("classify", "x.jpg", "--labels", "a,b", "--top", "0"))
    assert "bogus" in one_line(tandem("bogus"))


def test_debug_shows_the_trace(tandem: Any, tmp_path: Path) -> None:
    asked = ("classify", "x.jpg", "--labels", "a,b", "--model", str(tmp_path / "gone"))
    one_line(tandem(*asked))
    assert "Traceback" in tandem(*asked, "--debug").err


def test_interrupted_is_one_line(model_folder: str) -> None:
    """Ctrl-C while the list of photos is still being typed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tandem", "classify", "-", "--labels", "a,b", "--model", model_folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write("first.jpg\n")
    process.stdin.flush()
    waiting_in_read(process.pid)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "tandem: interrupted\n")


def waiting_in_read(pid: int) -> None:
    """Until the process sleeps with its modules loaded: it has nothing to do but wait for its input."""
    import time

    status = Path(f"/proc/{pid}/stat")
    if not status.exists():
        pytest.skip("needs /proc")
    asleep = 0
    for _ in range(1000):
        time.sleep(0.02)
        has_numpy = "numpy" in Path(f"/proc/{pid}/maps").read_text()
        asleep = asleep + 1 if has_numpy and status.read_text().rsplit(")", 1)[1].split()[0] == "S" else 0
        if asleep >= 40:
            return
    pytest.fail("the command never waited for its input")


def test_a_closed_pipe_is_no_error(model_folder: str, photos: list[str]) -> None:
    command = f"{sys.executable} -m tandem classify {photos[0]} --labels a,b --model {model_folder} --json"
    script = f"{command} | true; exit ${{PIPESTATUS[0]}}"
    process = subprocess.run(["bash", "-c", script], check=False, capture_output=True, text=True)
    assert process.stderr == ""
    assert process.returncode in (0, 141)  # 0 when all was written before the reader left


def test_warnings_are_one_line_and_not_in_the_json(tandem: Any, tmp_path: Path, photos: list[str]) -> None:
    noted = toy.folder(tmp_path / "noted", notes={"activation": "gelu was\nassumed"})
    outcome = tandem("classify", photos[0], "--labels", "a,b", "--model", noted, "--json")
    assert outcome.code == 0
    assert outcome.err == "tandem: warning: gelu was assumed\n"
    assert outcome.json["labels"] == ["a", "b"]


# --- classify ------------------------------------------------------------------------------------------------------


def test_classify_json_is_the_answer(tandem: Any, model_folder: str, photos: list[str]) -> None:
    outcome = tandem("classify", *photos, "--labels", "cat,dog,car", "--model", model_folder, "--json")
    assert outcome.code == 0
    assert outcome.json == load(model_folder).classify(photos, ["cat", "dog", "car"]).as_dict()


def test_classify_sets_aside_and_goes_on(tandem: Any, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    note = tmp_path / "note.jpg"
    note.write_text("hello")
    asked = ("classify", photos[0], note, "gone.jpg", photos[1], "--labels", "cat,dog", "--model", model_folder)
    outcome = tandem(*asked)
    assert outcome.code == 1
    assert photos[0] in outcome.out
    assert photos[1] in outcome.out
    assert "set aside 2 of 4" in outcome.err
    assert str(note) in outcome.err
    assert "gone.jpg" in outcome.err
    document = tandem(*asked, "--json")
    assert document.code == 1
    assert [result["image"] for result in document.json["results"]] == photos[:2]
    assert [failure["image"] for failure in document.json["failures"]] == [str(note), "gone.jpg"]


def test_one_bad_photo_is_one_line(tandem: Any, model_folder: str) -> None:
    assert "gone.jpg" in one_line(tandem("classify", "gone.jpg", "--labels", "cat,dog", "--model", model_folder))


def test_classify_shows_bars_for_a_few_and_lines_for_many(tandem: Any, model_folder: str, tmp_path: Path) -> None:
    few = toy.pictures(tmp_path / "few", 2)
    shown = tandem("classify", *few, "--labels", "cat,dog,car", "--top", "2", "--model", model_folder).out
    assert shown.count("%") == 4
    answer = load(model_folder).classify(few, ["cat", "dog", "car"])
    for source, best in zip(answer.sources, answer.top(2), strict=True):
        after = shown[shown.index(source) :]
        assert after.index(f"{best[0][1]:.1%}") < after.index(f"{best[1][1]:.1%}")
    toy.pictures(tmp_path / "many", 12)
    lines = tandem("classify", tmp_path / "many", "--labels", "cat,dog", "--model", model_folder).out.splitlines()
    assert len(lines) == 12
    assert all("%" in line for line in lines)


def test_labels_from_a_file_and_templates(tandem: Any, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\n\n dog, or wolf \n")
    asked = ("classify", photos[0], "--labels-file", labels, "--model", model_folder, "--json")
    model = load(model_folder)
    plain = tandem(*asked).json
    assert plain["labels"] == ["cat", "dog, or wolf"]
    two = tandem(*asked, "--template", "a {}", "--template", "{} there").json
    expected = model.classify(photos[0], ["cat", "dog, or wolf"], templates=["a {}", "{} there"]).as_dict()
    assert two == expected
    assert two["results"] != plain["results"]
    ensemble = tandem(*asked, "--ensemble").json
    assert ensemble["results"] not in (plain["results"], two["results"])


def test_labels_that_cannot_be(tandem: Any, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    start = ("classify", photos[0], "--model", model_folder)
    assert "no labels" in one_line(tandem(*start))
    assert "twice" in one_line(tandem(*start, "--labels", "cat,dog,cat"))
    assert "gone.txt" in one_line(tandem(*start, "--labels-file", tmp_path / "gone.txt"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in one_line(tandem(*start, "--labels-file", tmp_path / "binary"))
    assert "{}" in one_line(tandem(*start, "--labels", "a,b", "--template", "no slot"))


def test_classify_plot(tandem: Any, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "answer.png"
    outcome = tandem("classify", *photos, "gone.jpg", "--labels", "a,b", "--model", model_folder, "--plot", picture)
    assert outcome.code == 1
    assert picture.read_bytes().startswith(b"\x89PNG")
    one_line(tandem("classify", *photos, "--labels", "a,b", "--model", model_folder, "--plot", "answer.txt"))


def test_photos_from_standard_input(
    tandem: Any, model_folder: str, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{photos[1]}\n\n{photos[0]}\n"))
    outcome = tandem("classify", "-", "--labels", "a,b", "--model", model_folder, "--json")
    assert [result["image"] for result in outcome.json["results"]] == [photos[1], photos[0]]
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert "empty" in one_line(tandem("classify", "-", "--labels", "a,b", "--model", model_folder))


def test_what_a_folder_and_a_glob_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.pictures(tmp_path / "deep" / "er", 1)
    toy.pictures(tmp_path / ".hidden", 1)
    (tmp_path / "UPPER.JPG").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_pictures(["."]) == ["./UPPER.JPG", "./deep/er/0.png"]
    assert find_pictures(["deep/**/*.png", "deep/er/0.png"]) == ["deep/er/0.png"]
    assert find_pictures(["notes.txt", "gone.jpg", "https://example.org/a?b=[1]"]) == [
        "notes.txt",
        "gone.jpg",
        "https://example.org/a?b=[1]",
    ]
    (tmp_path / "a[1].png").write_bytes(b"")
    assert find_pictures(["a[1].png"]) == ["a[1].png"]
    for nothing in ("empty", "*.tiff"):
        with pytest.raises(TandemError, match=nothing.replace("*", r"\*")):
            find_pictures([nothing])


# --- embed ---------------------------------------------------------------------------------------------------------


def test_embed_photos_to_npz(tandem: Any, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    target = tmp_path / "vectors.npz"
    outcome = tandem("embed", *photos, "gone.png", "--out", target, "--model", model_folder, "--batch-size", "2")
    assert outcome.code == 1
    assert "gone.png" in outcome.err
    model = load(model_folder)
    with np.load(target) as file:
        assert list(file["ids"]) == photos
        np.testing.assert_allclose(file["vectors"], model.embed_images(photos), atol=1e-6)
        assert (str(file["fingerprint"]), str(file["model"]), str(file["kind"])) == (model.fingerprint, "toy", "images")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["photos", "vectors.npz"]


def test_embed_texts_to_parquet(
    tandem: Any, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    from tandem.cli import embed, vectors

    monkeypatch.setattr(embed, "SENTENCES_AT_ONCE", 3)
    monkeypatch.setattr(vectors, "ROWS_AT_ONCE", 5)
    sentences = [f"a cat number {i}" for i in range(11)]
    (tmp_path / "texts.txt").write_text("\n".join(sentences))
    target = tmp_path / "vectors.parquet"
    outcome = tandem("embed", "--texts", tmp_path / "texts.txt", "--out", target, "--model", model_folder, "--json")
    assert outcome.code == 0
    assert outcome.json["count"] == 11
    model = load(model_folder)
    file = parquet.ParquetFile(target)
    assert file.metadata.num_row_groups == 2
    table = file.read()
    assert table["id"].to_pylist() == sentences
    np.testing.assert_allclose(table["vector"].to_pylist(), model.embed_texts(sentences), atol=1e-6)
    about = json.loads(table.schema.metadata[b"tandem"])
    assert about == {"model": "toy", "fingerprint": model.fingerprint, "kind": "texts"}


def test_embed_as_json(tandem: Any, model_folder: str) -> None:
    document = tandem("embed", "--text", "a cat", "--text", "a dog", "--json", "--model", model_folder).json
    model = load(model_folder)
    assert document["model"] == {"name": "toy", "fingerprint": model.fingerprint}
    assert [result["id"] for result in document["results"]] == ["a cat", "a dog"]
    vectors = [result["vector"] for result in document["results"]]
    np.testing.assert_allclose(vectors, model.embed_texts(["a cat", "a dog"]), atol=1e-6)


def test_embed_refuses_early(tandem: Any, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    start = ("embed", "--model", model_folder)
    assert "nothing to embed" in one_line(tandem(*start, "--out", tmp_path / "v.npz"))
    assert "--out" in one_line(tandem(*start, photos[0]))
    assert ".csv" in one_line(tandem(*start, photos[0], "--out", tmp_path / "v.csv"))
    assert "not both" in one_line(tandem(*start, photos[0], "--text", "x", "--out", tmp_path / "v.npz"))
    long = one_line(tandem(*start, "--text", "cat " * 100, "--out", tmp_path / "v.npz"))
    assert "--truncate" in long or "truncate" in long
    assert tandem(*start, "--text", "cat " * 100, "--truncate", "--out", tmp_path / "v.npz").code == 0


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_nothing_half_written_is_left(
    tandem: Any, model_folder: str, photos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    target = tmp_path / f"vectors.{ending}"
    target.write_bytes(b"from before")
    assert "gone.png" in one_line(tandem("embed", "gone.png", "--out", target, "--model", model_folder))
    assert target.read_bytes() == b"from before"

    from tandem.cli import embed

    def fails_half_way(*_: Any, **__: Any) -> Any:
        yield ["a"], np.zeros((1, toy.DIMENSIONS), dtype=np.float32)
        raise KeyboardInterrupt

    monkeypatch.setattr(embed, "embed_pictures", fails_half_way)
    assert tandem("embed", *photos, "--out", target, "--model", model_folder).code == 130
    assert target.read_bytes() == b"from before"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["photos", target.name]


@pytest.mark.parametrize("ending", ["npz", "parquet", "json"])
def test_ids_are_utf8_whatever_the_files_are_called(
    tandem: Any, model_folder: str, photos: list[str], tmp_path: Path, ending: str
) -> None:
    odd = os.path.join(os.fsencode(tmp_path), b"b\xff.png")
    try:
        Path(os.fsdecode(odd)).write_bytes(Path(photos[0]).read_bytes())
    except OSError:
        pytest.skip("this file system wants UTF-8")
    target = tmp_path / f"q.{ending}"
    to = ("--json",) if ending == "json" else ("--out", target)
    outcome = tandem("embed", os.fsdecode(odd), *to, "--model", model_folder)
    assert outcome.code == 0
    if ending == "json":
        ids = [result["id"] for result in outcome.json["results"]]
    elif ending == "npz":
        ids = np.load(target)["ids"].tolist()
    else:
        ids = pytest.importorskip("pyarrow.parquet").read_table(target)["id"].to_pylist()
    assert ids == [str(tmp_path / "b") + r"\xff.png"]


def test_embed_takes_capital_endings_and_makes_the_folder(tandem: Any, model_folder: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / "v.NPZ"
    assert tandem("embed", "--text", "a cat", "--out", target, "--model", model_folder).code == 0
    assert np.load(target)["ids"].tolist() == ["a cat"]
    (tmp_path / "file").write_text("x")
    one_line(tandem("embed", "--text", "a cat", "--out", tmp_path / "file" / "v.npz", "--model", model_folder))


# --- convert, verify, models ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["tandem", "transformers", "open_clip"])
def test_convert_gives_the_same_vectors(tandem: Any, model_folder: str, tmp_path: Path, layout: str) -> None:
    target = tmp_path / "converted"
    outcome = tandem("convert", model_folder, target, "--to", layout)
    assert outcome.code == 0
    assert str(target) in outcome.out
    verified = tandem("verify", model_folder, "--against", target, "--json")
    assert verified.code == 0
    assert {comparison["verdict"] for comparison in verified.json["comparisons"]} == {"identical"}
    one_line(tandem("convert", model_folder, target, "--to", layout))
    assert tandem("convert", model_folder, target, "--to", layout, "--overwrite", "--json").json["format"] == layout


def test_convert_to_openvino(tandem: Any, model_folder: str, tmp_path: Path) -> None:
    import openvino

    target = tmp_path / "ir"
    assert tandem("convert", model_folder, target, "--to", "openvino").code == 0
    compiled = openvino.Core().compile_model(target / "image.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    pixels = np.random.default_rng(0).integers(0, 256, (3, toy.SIZE, toy.SIZE, 3), dtype=np.uint8)
    expected = load(model_folder).engine.encode_images(pixels)
    np.testing.assert_allclose(compiled(pixels)[0], expected, atol=1e-5)
    assert json.loads((target / "config.json").read_text())["embed_dim"] == toy.DIMENSIONS
    assert (target / "tokenizer.json").is_file()
    one_line(tandem("convert", model_folder, target, "--to", "openvino"))
    assert tandem("convert", model_folder, target, "--to", "openvino", "--overwrite").code == 0
    (target / "precious.txt").write_text("mine")
    assert "precious" in one_line(tandem("convert", model_folder, target, "--to", "openvino", "--overwrite"))
    assert (target / "precious.txt").read_text() == "mine"


def test_convert_to_onnx(tandem: Any, model_folder: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    assert tandem("convert", model_folder, tmp_path / "onnx", "--to", "onnx").code == 0
    names = {entry.name for entry in (tmp_path / "onnx").iterdir()}
    assert names == {"image.onnx", "text.onnx", "config.json", "tokenizer.json"}


def test_verify_one_model_in_every_way(tandem: Any, model_folder: str, photos: list[str]) -> None:
    outcome = tandem("verify", model_folder, "--images", Path(photos[0]).parent, "--json")
    assert outcome.code == 0
    document = outcome.json
    assert document["same"] is True
    assert {comparison["count"] for comparison in document["comparisons"]} >= {3}
    assert "least cosine" in tandem("verify", model_folder).out


def test_verify_tells_other_weights(tandem: Any, model_folder: str, tmp_path: Path) -> None:
    other = toy.folder(tmp_path / "other", seed=1)
    outcome = tandem("verify", model_folder, "--against", other)
    assert outcome.code == 1
    assert "different" in outcome.out
    assert "tensors differ" in outcome.out


def test_verify_tells_another_activation(tandem: Any, model_folder: str, tmp_path: Path) -> None:
    """The same weights, read with the wrong activation: no tensor differs, and the vectors do."""
    checkpoint = toy.checkpoint()
    quick = weights.Checkpoint(toy.config(activation="quick_gelu"), checkpoint.tensors, checkpoint.tokenizer, "quick")
    weights.write(quick, tmp_path / "quick", "tandem")
    document = tandem("verify", model_folder, "--against", tmp_path / "quick", "--json")
    assert document.code == 1
    assert document.json["same"] is False
    assert "text.activation: gelu against quick_gelu" in document.json["reasons"]


def test_verify_accepts_weights_rounded_to_half(tandem: Any, model_folder: str, tmp_path: Path) -> None:
    checkpoint = toy.checkpoint()
    halves = {name: array.astype(np.float16) for name, array in checkpoint.tensors.items()}
    weights.write(weights.Checkpoint(checkpoint.config, halves, checkpoint.tokenizer, "h"), tmp_path / "half", "tandem")
    document = tandem("verify", model_folder, "--against", tmp_path / "half", "--json")
    assert document.code == 0
    assert {comparison["verdict"] for comparison in document.json["comparisons"]} <= {
        "the same up to rounding",
        "the same",
    }


def test_verify_another_dimension_is_different(tandem: Any, model_folder: str, tmp_path: Path) -> None:
    other = toy.folder(tmp_path / "other", embed_dim=8)
    outcome = tandem("verify", model_folder, "--against", other, "--json")
    assert outcome.code == 1
    assert outcome.json["verdict"] == "different"
    assert "embed_dim: 12 dimensions against 8" in outcome.json["reasons"]


def test_verify_sets_a_broken_picture_aside(tandem: Any, model_folder: str, photos: list[str]) -> None:
    folder = Path(photos[0]).parent
    (folder / "broken.png").write_bytes(b"no picture")
    outcome = tandem("verify", model_folder, "--against", model_folder, "--images", folder, "--json")
    assert outcome.code == 1
    assert outcome.json["same"] is True
    assert [Path(failure["image"]).name for failure in outcome.json["failures"]] == ["broken.png"]
    assert outcome.json["comparisons"][0]["count"] == 3
    assert "broken.png" in outcome.err


def test_verify_in_the_way_that_is_asked_for(tandem: Any, model_folder: str) -> None:
    pytest.importorskip("torch")
    document = tandem("verify", model_folder, "--engine", "torch", "--json").json
    assert {comparison["other"] for comparison in document["comparisons"]} == {"torch float32"}
    assert tandem("verify", model_folder, "--device", "nonsense").code == 2


def test_models_lists_what_can_be_loaded(tandem: Any) -> None:
    shown = tandem("models")
    assert shown.code == 0
    document = tandem("models", "--json").json
    names = [model["name"] for model in document["models"]]
    assert {"ViT-B/32", "openai/clip-vit-base-patch32"} <= set(names)
    assert all(name in shown.out for name in names)


def test_demo_as_json(tandem: Any, model_folder: str, tmp_path: Path) -> None:
    for package in ("skimage", "sklearn", "matplotlib"):
        pytest.importorskip(package)
    out = tmp_path / "new" / "answer.png"
    outcome = tandem("demo", "--json", "--model", model_folder, "--out", out)
    assert outcome.code == 0
    document = outcome.json
    assert len(document["results"]) == 6
    for search in document["searches"]:
        scores = [hit["score"] for hit in search["hits"]]
        assert scores == sorted(scores, reverse=True)
    assert out.stat().st_size > 10_000
    assert out.with_name("search.png").stat().st_size > 10_000


def test_the_module_runs_as_the_command(model_folder: str, photos: list[str]) -> None:
    asked = ("classify", photos[0], "--labels", "a,b", "--model", model_folder, "--json")
    process = run_process(*asked, env={**os.environ, "COLUMNS": "80"})
    assert process.returncode == 0
    assert process.stderr == ""
    assert json.loads(process.stdout)["labels"] == ["a", "b"]


# --- convert and verify, where they refuse -------------------------------------------------------------------------


def test_graphs_are_no_model_to_load(tandem: Any, model_folder: str, tmp_path: Path) -> None:
    target = tmp_path / "ir"
    assert tandem("convert", model_folder, target, "--to", "openvino").code == 0
    assert json.loads((target / "config.json").read_text())["format"] == "tandem-openvino"
    says = f"{target}: this is OpenVINO IR: load the model it was made from"
    assert says in one_line(tandem("verify", model_folder, "--against", target))
    assert says in one_line(tandem("embed", "--text", "a cat", "--json", "--model", target))


def test_any_format_replaces_any_other(tandem: Any, model_folder: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    for to in ("tandem", "openvino", "transformers", "openvino", "open_clip"):
        assert tandem("convert", model_folder, target, "--to", to, "--overwrite").code == 0
    assert not (target / "image.xml").exists()


@pytest.mark.parametrize("to", ["tandem", "openvino"])
def test_convert_speaks_the_command_line(tandem: Any, model_folder: str, tmp_path: Path, to: str) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    said = one_line(tandem("convert", model_folder, tmp_path, "--to", to))
    assert "--overwrite" in said
    assert "overwrite=True" not in said
    file = tmp_path / "mine.txt" / "x"
    assert f"{file}: cannot be written" in one_line(tandem("convert", model_folder, file, "--to", to))


def test_a_mistyped_published_name_is_told_the_near_one_without_network(
    tandem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = one_line(tandem("embed", "--text", "a cat", "--json", "--model", "ViT-B/99"))
    assert "near: ViT-B/32" in said or "ViT-B/32" in said.partition("near: ")[2]


def test_nothing_kept_of_a_download_is_not_boasted_of(tmp_path: Path) -> None:
    from tandem.weights.openai import download

    with pytest.raises(TandemError, match="check the network") as refused:
        download("http://127.0.0.1:9/x.pt", tmp_path / "x.pt", "0" * 64, pause_s=0)
    assert "bytes are kept" not in str(refused.value)
