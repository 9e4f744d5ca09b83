"""Documents that cannot lie: README and docs are run, the command reference is what the parser says.

Python blocks run; in shell blocks the lines that begin with `tandem` run (in blocks marked `sh long` they are parsed
only). They find the files they speak of in a folder of their own, and `openai/clip-vit-base-patch32` in a cache
of the hub that is offline: a toy model in the layout of transformers.
"""

import importlib
import importlib.util
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import toy
from support.processes import DOCUMENTS, Child

from tandem import weights
from tandem.cli import main, terminal
from tandem.cli.parser import parse
from tandem.cli.reference import markdown
from tandem.cli.states_file import StatesFile
from tandem.image_states import ImageStates
from tandem.scores.calibration_files import own_path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHIPPED = ROOT / "src" / "tandem" / "assets" / "tandem-mini"


def blocks(language: str) -> list[tuple[str, str, str]]:
    """(place, remark, code) of each block of one language in all pages."""
    return [
        (f"{page.relative_to(ROOT)}-{number}", remark.strip(), code)
        for page in PAGES
        for number, (found, remark, code) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
        if found == language
    ]


def commands() -> list[tuple[str, str, str]]:
    """(place, remark, line) of each line that begins with `tandem` in shell blocks."""
    return [
        (f"{place}: {line}", remark, line)
        for place, remark, code in blocks("sh")
        for line in code.splitlines()
        if line.startswith("tandem ")
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the blocks run: the files that the pages speak of."""
    place = tmp_path_factory.mktemp("docs")
    for name in ("cat.jpg", "dog.jpg"):
        toy.random_image(len(name), (120, 90)).save(place / name)
    (place / "Pictures").mkdir()
    for i in range(3):
        toy.random_image(i).save(place / "Pictures" / f"{i}.jpg")
    for i in range(8):
        photo = place / "pets" / ("cat", "dog")[i % 2] / f"{i}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        toy.random_image(i).save(photo)
    (place / "labels.txt").write_text("cat\ndog\ncar\n")
    (place / "animals.csv").write_text("en,de,fr\ndog,Hund,chien\ncat,Katze,chat\n")
    (place / "recipes").symlink_to(ROOT / "recipes")
    if importlib.util.find_spec("pyarrow"):
        with StatesFile(
            place / "states.parquet", 24, {"model": "toy", "fingerprint": "0", "layer": -2, "class_token": True}
        ) as file:
            file.add("0.jpg", ImageStates(np.ones((17, 24), np.float32), (4, 4), -2, has_class_token=True))
    revision = "0" * 40
    for name in ("openai--clip-vit-base-patch32", "google--siglip2-base-patch16-256"):
        snapshot = place / "hub" / f"models--{name}" / "snapshots" / revision
        snapshot.parent.mkdir(parents=True)
        weights.write(toy.checkpoint(), snapshot, "transformers")
        refs = snapshot.parents[1] / "refs"
        refs.mkdir()
        (refs / "main").write_text(revision)
    with_bias = place / "hub" / "models--timm--ViT-B-16-SigLIP2-256"
    weights.write(toy.checkpoint(logit_bias=True), with_bias / "snapshots" / revision, "open_clip")
    (with_bias / "refs").mkdir()
    (with_bias / "refs" / "main").write_text(revision)
    return place


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    hub = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / "hub")}
    return {**os.environ, "PATH": path, "HOME": str(folder), **hub}


def test_there_is_something_to_run() -> None:
    assert len(blocks("python")) >= 3
    assert len(commands()) >= 10


@pytest.fixture
def here(folder: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is where a reader would be, though its modules are imported already."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", environment["HF_HUB_CACHE"])
    monkeypatch.chdir(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "remark", "code"), blocks("python"), ids=lambda value: value[:40])
def test_python_blocks_run(
    place: str, remark: str, code: str, folder: Path, environment: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """In this process, where nothing is imported or compiled again; in one of its own what adds to Tandem itself."""
    pytest.importorskip("matplotlib")
    with served(folder, environment) if remark == "served" else nullcontext("") as address:
        code = code.replace("http://127.0.0.1:8000", address) if address else code
        if place.startswith("docs/how-to/"):
            _run_alone(place, code, folder, environment)
            return
        request.getfixturevalue("here")
        with warnings.catch_warnings():
            warnings.filterwarnings("error", category=UserWarning)
            exec(compile(code, place, "exec"), {"__name__": "__main__"})


def _run_alone(place: str, code: str, folder: Path, environment: dict[str, str]) -> None:
    strict = "import warnings\nwarnings.filterwarnings('error', category=UserWarning)\n"
    with Child(DOCUMENTS, strict + code, environment=environment, cwd=folder) as process:
        said = process.stderr.read()
        assert process.wait() == 0, f"{place}:\n{said}"


@contextmanager
def served(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """`tandem serve` over the images that the pages speak of: its address."""
    pytest.importorskip("fastapi")
    subprocess.run(["tandem", "index", "Pictures", "--to", "photos.tandem"], check=True, cwd=folder, env=environment)
    command = ["tandem", "serve", "photos.tandem", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert address is not None, line
            yield address[0]
        finally:
            process.terminate()


@pytest.mark.slow
def test_shell_lines_run_in_their_order(here: None, capfd: pytest.CaptureFixture[str]) -> None:
    """Those that need a shell in one; the others in this process, where nothing is imported again."""
    pytest.importorskip("pyarrow")
    assert len(commands()) > 30
    for place, remark, line in commands():
        words = shlex.split(line, comments=True)
        if remark == "long":
            parse(words[1:])
        elif re.search(r"[|<>&;$`*~]", line):
            done = subprocess.run(["bash", "-c", line], check=False, capture_output=True, text=True)
            assert done.returncode == 0, f"{place}:\n{done.stderr}"
        else:
            assert main(words[1:]) == 0, f"{place}:\n{capfd.readouterr().err}"
            terminal.set_loudness(quiet=False, verbose=False)


@pytest.mark.slow
def test_examples_of_help_parse() -> None:
    """They name files that are not there; their options must exist."""
    lines = [line for line in markdown().splitlines() if line.startswith("tandem ")]
    assert len(lines) >= 12
    for line in lines:
        parse(shlex.split(re.split(r" > [\w.]+$| \| |> ~", line)[0])[1:])


def test_the_command_reference_is_current() -> None:
    page = ROOT / "docs" / "commands.md"
    assert page.read_text(encoding="utf-8") == markdown(), "run: make docs"


@pytest.mark.slow
def test_the_http_reference_is_current() -> None:
    pytest.importorskip("fastapi")
    written = runpy.run_path(str(ROOT / "docs" / "http_reference.py"))
    page = ROOT / "docs" / "http.md"
    assert page.read_text(encoding="utf-8") == written["markdown"](written["document"]()), "run: make docs"


@pytest.mark.slow
def test_readme_shows_what_the_demo_prints(folder: Path, environment: dict[str, str]) -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    process = subprocess.run(
        ["tandem", "demo"], check=False, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert Image.open(folder / "demo" / "answer.png").width > 500
    _, _, shown = blocks("text")[0]
    words, numbers = _words_and_numbers(process.stdout)
    shown_words, shown_numbers = _words_and_numbers(shown)
    assert shown_words == words, f"run: make docs. The demo printed:\n{process.stdout}"
    # The last digits depend on the processor.
    assert shown_numbers == pytest.approx(numbers, abs=1.0)


@pytest.mark.slow
def test_the_guide_to_learning_shows_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its photos come with scikit-image; the figures are those of the model that ships."""
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "92")
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))
    (code,) = (code for _, remark, code in blocks("python") if remark == "learn-guide")
    (shown,) = (code for _, remark, code in blocks("text") if remark == "learn-guide")
    exec(code, {})
    capfd.readouterr()
    with monkeypatch.context() as watched:
        watched.setattr(sys.stdout, "isatty", lambda: True)
        assert main(["learn", "materials", "--to", "materials.tandem-head"]) == 0
    printed = "".join(re.sub("\x1b\\[[0-9;]*m", "", text) for text in capfd.readouterr())
    assert _words_and_numbers(printed)[0] == _words_and_numbers(shown)[0]
    np.testing.assert_allclose(_words_and_numbers(printed)[1], _words_and_numbers(shown)[1], atol=0.11)
    right = {}
    for how in ("--head=materials.tandem-head", "--labels=brick,grass,gravel"):
        assert main(["classify", "new", how, "--top", "1"]) == 0
        rows = [line.split("\t") for line in capfd.readouterr().out.splitlines()]
        right[how[:6]] = sum(Path(path).parent.name == label for path, label, _ in rows)
    guide = " ".join((ROOT / "docs" / "learn.md").read_text(encoding="utf-8").split())
    assert f"{right['--head']} are right with the head, and {right['--labe']} with the names alone" in guide


def _words_and_numbers(text: str) -> tuple[list[str], list[float]]:
    tokens = re.sub("[▏▎▍▌▋▊▉█]", "", text).replace("%", "").split()
    numbers = [token for token in tokens if re.fullmatch(r"-?\d+(\.\d+)?", token)]
    return [token for token in tokens if token not in numbers], [float(token) for token in numbers]


def test_the_tables_of_models_are_of_the_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    page = (ROOT / "docs" / "choose-a-model.md").read_text(encoding="utf-8")
    assert importlib.import_module("model_tables").refreshed(page) == page, "run: make docs"
    assert page.count("\n| `") > 20


def test_pages_that_are_linked_are_there() -> None:
    links = [
        (page, target)
        for page in PAGES
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert len(links) > 20
    for page, target in links:
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


@pytest.mark.slow
def test_what_is_generated_does_not_depend_on_who_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for needed in ("fastapi", "skimage", "sklearn", "matplotlib"):
        pytest.importorskip(needed)
    home, copy = tmp_path / "home", tmp_path / "clone"
    monkeypatch.setenv("TANDEM_HOME", str(home))
    fingerprint = json.loads((SHIPPED / "relevance.json").read_text(encoding="utf-8"))["fingerprint"]
    own = own_path(fingerprint)
    own.parent.mkdir(parents=True)
    own.write_text("no calibration: whoever reads it fails", encoding="utf-8")
    (copy / "docs" / "images").mkdir(parents=True)
    shutil.copy(ROOT / "README.md", copy)
    shutil.copy(ROOT / "docs" / "choose-a-model.md", copy / "docs")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    refresh = importlib.import_module("refresh")
    monkeypatch.setattr(refresh, "ROOT", copy)
    refresh.main()
    for name in ("commands.md", "http.md", "choose-a-model.md"):
        assert (copy / "docs" / name).read_bytes() == (ROOT / "docs" / name).read_bytes()
    assert (copy / "docs" / "images" / "demo.png").stat().st_size > 10_000
    assert [path for path in home.rglob("*") if path.is_file()] == [own]
