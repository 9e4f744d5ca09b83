"""A run packed into one file trains on a machine that has little, and to the same end as here."""

import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import run_toys

from tandem.errors import ConfigError, DataError
from tandem.train.objective import teacher
from tandem.train.recipe_file import read_recipe
from tandem.train.run import packing
from tandem.train.run.packing import pack

ROOT = Path(__file__).resolve().parents[2]
WORDS = "stone\nriver\nx\n##ing\ncloud\n"

# Packages of a machine for training, and what they need themselves. `transformers` is one, too: left out for speed.
THERE = """torch functorch torchgen numpy PIL pyarrow safetensors tokenizers huggingface_hub httpx httpcore h11 anyio
idna certifi filelock fsspec hf_xet packaging yaml tqdm typing_extensions sympy mpmath networkx jinja2 markupsafe"""

BARE = """
import importlib.machinery, sys
class Bare(importlib.machinery.PathFinder):
    allowed = {{*{there!r}.split(), *sys.stdlib_module_names, *{ours!r}}}
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        known = top in cls.allowed or top.startswith("_sysconfigdata")
        return super().find_spec(name, path, target) if known else None
sys.meta_path[:] = [Bare if each is importlib.machinery.PathFinder else each for each in sys.meta_path]
sys.path.insert(0, {bench!r})
import torch
torch.set_num_threads(1)
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a teacher that encodes a text as its length, and words of its own."""
    monkeypatch.setattr(teacher, "_encode", lambda folder, texts: np.array([[len(t), 1.0] for t in texts], np.float16))
    (tmp_path / "sentences").mkdir()
    (tmp_path / "sentences/vocab.txt").write_text(WORDS)
    run_toys.write_data(tmp_path)
    path = run_toys.write_recipe(tmp_path, tmp_path / "run")
    path.write_text(path.read_text() + f'[distillation]\nteacher = "{tmp_path / "sentences"}"\nwords_per_batch = 2\n')
    return path


def test_what_is_packed(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "captions.tar").rename(tmp_path / "elsewhere/of-may.tar")
    (tmp_path / "captions.tar").symlink_to("elsewhere/of-may.tar")
    lines = pack(read_recipe(recipe, [f"cache_folder={tmp_path}/cache"]), tmp_path / "toy.tar")
    with tarfile.open(tmp_path / "toy.tar") as tar:
        names = tar.getnames()
        assert all(member.isreg() for member in tar)
        tar.extractall(tmp_path / "there", filter="data")
    inside = ["recipe.toml", "run/tokenizer.json", "run/teacher.npz", "data/names.parquet", "data/captions.tar"]
    assert names == inside
    with pytest.raises(DataError, match=r"toy.tar: there is such a file; remove it, or name another one"):
        pack(read_recipe(recipe), tmp_path / "toy.tar")
    with pytest.raises(DataError, match=r"nowhere: no such folder to write toy.tar into"):
        pack(read_recipe(recipe), tmp_path / "nowhere/toy.tar")
    assert lines[1] == "there: tar xf toy.tar && tandem train recipe.toml"
    assert not (tmp_path / "run").exists()
    assert (tmp_path / "there/data/captions.tar").read_bytes() == (tmp_path / "captions.tar").read_bytes()
    there = read_recipe(tmp_path / "there/recipe.toml")
    assert (there.folder, there.data_root, there.cache_folder) == ("run", "data", "")
    cache = tmp_path / "there/run/teacher.npz"
    assert teacher.words("nowhere", cache) == ["a photo of a stone.", "river", "a photo of a cloud."]
    assert set(teacher.vectors("nowhere", ["river"], cache)) > {"river", "a photo of a cloud."}
    # A run that has begun keeps its vocabulary and its teacher's vectors: they are packed, not computed again.
    (tmp_path / "there/run").rename(tmp_path / "run")
    monkeypatch.setattr(teacher, "_encode", lambda *_: pytest.fail("the teacher is asked again"))
    pack(read_recipe(recipe), tmp_path / "again.tar")
    with tarfile.open(tmp_path / "again.tar") as tar:
        for name in ("run/tokenizer.json", "run/teacher.npz"):
            assert tar.extractfile(name).read() == (tmp_path / name).read_bytes()  # type: ignore[union-attr]


def test_words_are_added_to_vectors_that_were_kept_without_them(recipe: Path, tmp_path: Path) -> None:
    cache, folder = tmp_path / "teacher.npz", str(tmp_path / "sentences")
    teacher.vectors(folder, ["a", "river"], cache)
    teacher.vectors(folder, ["a"], cache, ["river"])
    assert teacher.words("nowhere", cache) == ["river"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data_root=https://example.org/", r"names.parquet: lies at a URL, which the other machine can read too"),
        ("init.model={other}", r"init.model: .*other is on this machine and cannot be packed"),
        ("init.image={other}", r"init.image: .*other is on this machine and cannot be packed"),
        ("init.text={other}", r"init.text: .*other is on this machine and cannot be packed"),
        ("distillation.model={other}", r"distillation.model: .*other is on this machine and cannot be packed"),
        ("validation.retrieval=gone.tar", r"gone.tar: no such file or folder; set data_root=FOLDER"),
        ("data_root={root}/nowhere", r"names.parquet: no such file"),
    ],
)
def test_what_cannot_be_packed(recipe: Path, tmp_path: Path, change: str, message: str) -> None:
    changed = change.format(root=tmp_path, other=tmp_path / "other")
    key, _, value = changed.partition("=")
    part, _, name = key.partition(".")
    chosen = read_recipe(recipe, [] if part in ("init", "distillation") else [changed])
    if part in ("init", "distillation"):
        (tmp_path / "other").mkdir()
        settings: Any = getattr(chosen, part)
        chosen = replace(chosen, **{part: replace(settings, **{name: value})})
    with pytest.raises((ConfigError, DataError), match=message):
        pack(chosen, tmp_path / "toy.tar")
    assert not (tmp_path / "toy.tar").exists()


def test_links_are_followed_and_what_is_no_file_is_named(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in ("cat", "dog/more"):
        (root / folder).mkdir(parents=True)
        (root / folder / "1.jpg").write_bytes(b"1")
    (tmp_path / "bird").mkdir()
    (tmp_path / "bird/2.jpg").write_bytes(b"2")
    (root / "bird").symlink_to(tmp_path / "bird")
    (root / "cat/2.jpg").symlink_to("../bird/2.jpg")
    (root / "dog/round").symlink_to(root)  # training does not follow it either
    found = [str(path.relative_to(root)) for path in packing._regular_files(root)]
    assert found == ["bird/2.jpg", "cat/1.jpg", "cat/2.jpg", "dog/more/1.jpg"]
    (root / "dog/3.jpg").symlink_to("gone.jpg")
    with pytest.raises(DataError, match=r"dog/3\.jpg: a link that leads to nothing \(gone\.jpg\)"):
        list(packing._regular_files(root))
    (root / "dog/3.jpg").unlink()
    os.mkfifo(root / "cat/3.jpg")
    with pytest.raises(DataError, match=r"cat/3\.jpg: neither a file nor a folder"):
        list(packing._regular_files(root))


def test_whole_paths_are_refused(recipe: Path, tmp_path: Path) -> None:
    """The other machine has none of them, and the recipe that is packed would name them."""
    recipe.write_text(recipe.read_text().replace('path = "names', f'path = "{tmp_path}/names'))
    with pytest.raises(ConfigError, match=r"names.parquet: another machine has no such path; name it from data_root"):
        pack(read_recipe(recipe), tmp_path / "toy.tar")


def test_data_elsewhere_are_refused(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    recipe.write_text(recipe.read_text().replace('path = "names', f'path = "{tmp_path}/names'))
    with pytest.raises(ConfigError, match=r"names.parquet: is not below data_root \(.*below\)"):
        pack(read_recipe(recipe, [f"data_root={tmp_path / 'below'}"]), tmp_path / "toy.tar")


def test_a_table_is_refused_for_its_images_stay_here(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("path,names\na.jpg,stone\n")
    recipe.write_text(recipe.read_text().replace('path = "names.parquet"', 'path = "names.csv"'))
    with pytest.raises(ConfigError, match=r"names.csv: a table names images that are elsewhere"):
        pack(read_recipe(recipe), tmp_path / "toy.tar")


@pytest.mark.slow
def test_a_machine_with_little_trains_and_measures(recipe: Path, tmp_path: Path, shared: Path) -> None:
    """From the source tree, with the packages of `THERE` alone: neither OpenVINO nor anything else of Tandem's."""
    pack(read_recipe(recipe), tmp_path / "toy.tar")
    with tarfile.open(tmp_path / "toy.tar") as tar:
        tar.extractall(tmp_path / "there", filter="data")
    benches = {path.stem for path in (ROOT / "bench").glob("*.py")} | {"tandem"}
    kept = tmp_path / "gpu.jsonl"
    given = ["--device", "cpu", "--tiny", "--rounds", "1", "--results", str(kept), "--golden", str(shared / "golden")]
    code = BARE.format(there=THERE, ours=benches, bench=str(ROOT / "bench")) + (
        "import importlib.util as there\n"
        "assert there.find_spec('torch')\n"
        "assert not any(map(there.find_spec, ['openvino', 'faiss', 'rich', 'ml_dtypes']))\n"
        "from tandem.cli import main\n"
        "assert main(['train', 'recipe.toml', 'steps=2', 'device=cpu']) == 0\n"
        "import gpu\n"
        f"assert gpu.main(['all', *{given!r}]) == 0\n"
        f"gpu.main(['all', *{given!r}])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path / "there",
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "there/run/model/model.safetensors").is_file()
    said = done.stdout
    for wanted in (
        "| vit-tiny, images | float32 | the original |",
        "| gradient of a step, two micro-batches | bfloat16 |",
        "| ViT-B/32 | 4 | tandem |",
        "transformers is not installed",
        "| ViT-B/32 | 8 | plain loop |",
        "| 64 | 512 | blocks |",
        "| both: Model.embed_images |",
    ):
        assert said.count(wanted) == 2, wanted  # the second time from what is kept
    assert " | NO |" not in said
    cases = kept.read_text().splitlines()
    assert len(cases) == len(set(cases)) == said.count(": done)")


def test_without_a_gpu_the_bench_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        import gpu
        import gpu_measure
    finally:
        sys.path.pop(0)
    assert gpu.main(["encode"]) == 2
    a = torch.randn(6, 10)
    assert gpu_measure.operations(lambda: a @ a.T) == 2 * 6 * 10 * 6
