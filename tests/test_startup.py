"""What a cold start must not pay for. Times are measured in bench/startup.py; here: which modules are loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support import toy

import tandem

HEAVY = {"torch", "openvino", "tokenizers", "huggingface_hub", "transformers", "matplotlib", "httpx", "ftfy"} | {
    "rich",
    "PIL",
    "numpy",
}
OTHER_FORMATS = ("open_clip", "open_clip_config", "transformers", "transformers_config", "single_file", "torch_zip")


def modules_after(code: str) -> set[str]:
    """The modules that `code` imports in a fresh interpreter, by their full names."""
    code = (
        f"import sys\nbefore = set(sys.modules)\n{code}\nprint('loaded:', *set(sys.modules) - before, file=sys.stderr)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(process.stderr.partition("loaded:")[2].split())


def loaded_after(code: str) -> set[str]:
    """Their top-level packages."""
    return {name.split(".")[0] for name in modules_after(code)}


def modules_of(*arguments: str) -> set[str]:
    """The modules that a command imports."""
    return modules_after(f"import tandem.cli\ntry: tandem.cli.main({list(arguments)!r})\nexcept SystemExit: pass")


def ours(modules: set[str], *rooms: str) -> set[str]:
    """Those of Tandem's own rooms, such as `weights` or `search.indexing`."""
    prefixes = tuple(f"tandem.{room}." for room in rooms)
    return {name for name in modules if f"{name}.".startswith(prefixes)}


@pytest.mark.parametrize(
    "code",
    [
        "import tandem",
        "import tandem.cli\ntry: tandem.cli.main(['--help'])\nexcept SystemExit: pass",
        "from tandem.cli.parser import build_parser\nbuild_parser()",  # the help of every command
    ],
    ids=["import", "help", "every-command"],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    assert not loaded_after(code) & HEAVY


@pytest.mark.parametrize("arguments", ["--help", "serach", "search --help", "search x --bogus"])
def test_no_other_command_is_imported(arguments: str) -> None:
    loaded = {name for name in modules_of(*arguments.split()) if name.startswith("tandem.cli.commands.")}
    assert loaded == ({"tandem.cli.commands.search"} if arguments.startswith("search") else set())


def test_help_imports_only_what_it_shows() -> None:
    """Each module takes about a millisecond of some thirty: add one here only if the help needs it."""
    loaded = modules_of("--help")
    cli = {f"tandem.cli.{name}" for name in ("arguments", "commands", "exit_codes", "parser", "terminal")}
    # The names are how the package loads nothing; the version is a line of its own
    whole = {"tandem", "tandem.cli", "tandem.errors", "tandem.lazy_names", "tandem.version"}
    assert {name for name in loaded if name.startswith("tandem")} == whole | cli
    slow = {"shutil", "traceback", "difflib", "json", "pathlib", "dataclasses", "inspect", "logging", "argcomplete"}
    assert not loaded & slow


@pytest.fixture
def collection(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of photos, and a collection in which they are."""
    photos, url = tmp_path / "photos", tmp_path / "photos.tandem"
    photos.mkdir()
    for grey in (50, 200):
        Image.new("L", (60, 40), grey).save(photos / f"{grey}.png")
    with tandem.open(url, toy.folder(tmp_path / "model")) as made:
        made.add(photos)
    return photos, url


@pytest.mark.slow
def test_indexing_unchanged_files_imports_no_model_and_no_search(collection: tuple[Path, Path]) -> None:
    photos, url = collection
    loaded = modules_of("index", str(photos), "--to", str(url))
    assert "tandem.search.indexing.local" in loaded
    assert not ours(loaded, "model", "weights", "tokenizer", "bpe", "prompts", "answer", "html", "plots")
    assert not ours(loaded, "search.searching", "search.query", "search.results", "scores")
    assert not ours(loaded, "search.labelling", "search.exploring", "search.calibration")
    assert not ours(loaded, "search.indexing.on_ray", "search.stores.milvus", "search.stores.lance")
    assert not loaded & {"openvino", "tokenizers", "faiss", "rich", "pathspec", "argcomplete", "difflib"}


@pytest.mark.slow
def test_searching_imports_no_indexing_and_no_exploring(collection: tuple[Path, Path]) -> None:
    _, url = collection
    loaded = modules_of("search", str(url), "a grey square")
    rooms = {"tandem.search.indexing.entries", "tandem.search.indexing.image_record"}  # what records are
    assert ours(loaded, "search.indexing") == {"tandem.search.indexing"} | rooms
    assert not ours(loaded, "search.labelling", "search.exploring", "search.calibration", "plots")
    assert not ours(loaded, "search.stores.milvus", "search.stores.lance")
    assert not ours(loaded, *(f"weights.{name}" for name in OTHER_FORMATS))
    assert not loaded & {"rich", "pathspec", "argcomplete", "difflib"}


def test_a_folder_of_transformers_is_read_without_open_clip(tmp_path: Path) -> None:
    from tandem import weights
    from tandem.weights import open_clip, reading

    assert reading.OPEN_CLIP_CONFIG == open_clip.CONFIG
    folder = tmp_path / "model"
    weights.write(toy.checkpoint(), folder, to="transformers")
    loaded = modules_after(f"from tandem.weights import reading\nreading.read({str(folder)!r})")
    assert "tandem.weights.transformers" in loaded
    assert not ours(loaded, "weights.open_clip", "weights.open_clip_config", "weights.open_clip_text")


@pytest.mark.slow
def test_classifying_imports_no_collection_and_no_drawing(tmp_path: Path) -> None:
    photo = tmp_path / "grey.png"
    Image.new("L", (60, 40), 90).save(photo)
    loaded = modules_of("classify", str(photo), "--labels", "a,b", "--model", str(toy.folder(tmp_path / "model")))
    assert "tandem.model" in loaded
    assert not ours(loaded, "search", "plots", *(f"weights.{name}" for name in OTHER_FORMATS))
    assert not loaded & {"rich", "pathspec", "argcomplete", "difflib"}


@pytest.mark.slow
def test_answering_imports_no_torch(tmp_path: Path) -> None:
    code = f"""
import tandem, PIL.Image
tandem.load({str(toy.folder(tmp_path / "model"))!r}).classify([PIL.Image.new("RGB", (80, 60))], ["a", "b"])
"""
    assert not loaded_after(code) & {"torch", "transformers", "huggingface_hub", "matplotlib", "rich", "httpx"}


@pytest.mark.slow
def test_conditioning_imports_no_torch(tmp_path: Path) -> None:
    code = f"""
from tandem.conditioning import Conditioner
Conditioner("states", {str(toy.folder(tmp_path / "model"))!r}).encode("a (red:1.2) cat", "x")
"""
    assert not loaded_after(code) & {"torch", "transformers", "diffusers", "huggingface_hub", "matplotlib", "rich"}


@pytest.mark.slow
def test_the_ten_lines_of_compat_import_no_torch(tmp_path: Path) -> None:
    """Although they ask for its tensors: a script that does not import it does not wait for it."""
    folder = str(toy.folder(tmp_path / "model"))
    code = f"""
import PIL.Image
from tandem.compat.transformers import CLIPModel, CLIPProcessor
inputs = CLIPProcessor.from_pretrained({folder!r})(
    text=["a", "b"], images=PIL.Image.new("RGB", (80, 60)), return_tensors="pt", padding=True
)
print(CLIPModel.from_pretrained({folder!r})(**inputs).logits_per_image.softmax(dim=1))
"""
    loaded = loaded_after(code)
    assert "tandem" in loaded
    assert not loaded & {"torch", "transformers", "huggingface_hub", "matplotlib", "rich", "httpx"}


@pytest.mark.slow
def test_answering_sends_nothing(tmp_path: Path) -> None:
    """OpenVINO's telemetry is not even imported, and no address is looked up or connected to."""
    code = f"""
import socket, PIL.Image
def refuse(*_, **__): raise SystemExit("something is sent")
socket.getaddrinfo = socket.socket.connect = refuse
import tandem
model = tandem.load({str(toy.folder(tmp_path / "model"))!r})
model.classify([PIL.Image.new("RGB", (80, 60))] * 9, ["a", "b"])
import openvino
assert openvino.convert_model is not None
"""
    loaded = modules_after(code)
    assert "openvino" in loaded
    assert "openvino_telemetry" not in loaded
    assert "openvino.tools.ovc" not in loaded  # converters of other formats: 0.1 s of a cold start


@pytest.mark.slow
def test_openvino_converts_after_tandem_imported_it_and_sends_nothing(tmp_path: Path) -> None:
    """Its converters are imported by the first call."""
    pytest.importorskip("onnx")
    code = f"""
import socket
def refuse(*_, **__): raise SystemExit("something is sent")
socket.getaddrinfo = socket.socket.connect = refuse
import tandem.openvino_import, numpy, onnx, openvino
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
ends = [make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2]) for name in "ab"]
graph = make_graph([make_node("Relu", ["a"], ["b"])], "relu", ends[:1], ends[1:])
onnx.save(make_model(graph, opset_imports=[make_opsetid("", 13)], ir_version=8), {str(tmp_path / "relu.onnx")!r})
for _ in range(2):
    made = openvino.compile_model(openvino.convert_model({str(tmp_path / "relu.onnx")!r}), "CPU")
    assert made([numpy.float32([[-1, 2]])])[0].tolist() == [[0.0, 2.0]]
"""
    loaded = modules_after(code)
    assert "openvino.tools.ovc" in loaded
    assert "openvino_telemetry" not in loaded


@pytest.mark.slow
def test_evaluating_imports_no_comparison_no_store_and_no_training(tmp_path: Path) -> None:
    loaded = modules_of("evaluate", str(tmp_path / "absent"))
    assert "tandem.datasets.opening" in loaded
    assert not ours(
        loaded, "evaluate.comparison", "evaluate.report.side_by_side", "evaluate.few_shot", "train", "audit"
    )
    assert not ours(loaded, "search.collection", "search.stores.embedded", "cli.comparison_tables")
    assert not loaded & {"torch", "openvino", "pyarrow", "rich"}
