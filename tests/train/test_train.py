"""Training on a task that can be learned in seconds: images of one colour, named by their colour."""

import csv
import io
import json
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from support.processes import TRAINING, Child
from support.training_toys import matrix

from tandem.errors import ConfigError, DataError
from tandem.samples import read_parquet, read_webdataset
from tandem.tokenizer import Tokenizer
from tandem.train.data.loader import Loader
from tandem.train.recipe import Recipe
from tandem.train.recipe_file import read_recipe
from tandem.train.run.loop import train

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("training")]

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (30, 30, 220), "white": (250, 250, 250)}

RECIPE = """
name = "toy"
folder = "{folder}"
data_root = "{root}"
steps = 60
vocabulary = 540
precision = "float32"
checkpoint_every_steps = 10
log_every_steps = 10
stages = [{{ start = 0.0, image_size = 16 }}, {{ start = 0.5, image_size = 32 }}]
[model]
embed_dim = 16
[model.vision]
type = "resnet"
image_size = 32
layers = [1, 1, 1, 1]
width = 4
heads = 2
block = "basic"
stem_stride = 2
[model.text]
context_length = 16
vocabulary_size = 540
width = 16
layers = 1
heads = 2
mlp_width = 32
activation = "gelu"
start_id = 538
end_id = 539
[[data]]
path = "names-*.parquet"
text = "names"
kind = "names"
per_batch = 12
[[data]]
path = "captions.tar"
text = "captions"
per_batch = 4
[optimiser]
learning_rate = 1e-2
warmup_steps = 5
[validation]
every_steps = 30
zero_shot = "names-0.parquet"
retrieval = "captions.tar"
"""


def _image(name: str, seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(-15, 15, (32, 32, 3))
    pixels = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    names = [name for name in COLOURS for _ in range(10)]
    images = [_image(name, i) for i, name in enumerate(names)]
    pq.write_table(pa.table({"image": images, "names": names}), tmp_path / "names-0.parquet")
    with tarfile.open(tmp_path / "captions.tar", "w") as tar:
        for i, name in enumerate(names):
            for suffix, content in (
                ("png", images[i]),
                ("json", json.dumps({"captions": [f"all {name}", f"{name} everywhere"]}).encode()),
            ):
                info = tarfile.TarInfo(f"{i:03d}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return tmp_path


def _recipe(data: Path, *overrides: str) -> Recipe:
    path = data / "toy.toml"
    path.write_text(RECIPE.format(folder=data / "run", root=data))
    return read_recipe(path, overrides)


def _loader(recipe: Recipe) -> Loader:
    return Loader(recipe, Tokenizer.clip())


def test_it_learns_the_colours_and_the_result_is_a_model(data: Path) -> None:
    import tandem

    finished = train(_recipe(data)).model
    assert finished is not None
    model = tandem.load(finished)
    colour = np.full((32, 32, 3), COLOURS["blue"], np.uint8)
    assert model.classify([colour], list(COLOURS)).best == ["blue"]
    with (data / "run" / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["loss"]) for row in rows if row["loss"]]
    assert losses[-1] < 0.7 * losses[0]
    assert float(rows[-1]["zero_shot_top1"]) > 0.9  # chance: 0.25


def test_stopping_anywhere_and_going_on_ends_in_the_same_weights(data: Path) -> None:
    torch.set_num_threads(1)
    whole = train(_recipe(data, "steps=24", f"folder={data / 'whole'}")).model
    steps_asked = iter([False] * 12 + [True])
    stopped = train(_recipe(data, "steps=24"), stop_requested=lambda: next(steps_asked))
    assert (stopped.model, stopped.step, stopped.saved_step) == (None, 13, 13)
    resumed = train(_recipe(data, "steps=24")).model
    assert whole is not None
    assert resumed is not None
    a, b = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_a_batch_depends_on_the_step_alone(data: Path) -> None:
    one, other = _loader(_recipe(data)), _loader(_recipe(data))
    other.batch(3)
    a, b = one.batch(7), other.batch(7)
    assert np.array_equal(a.pixels, b.pixels)
    assert a.texts == b.texts
    assert a.pixels.shape == (16, 16, 16, 3)
    assert one.batch(30).pixels.shape == (16, 32, 32, 3)
    assert not np.array_equal(one.batch(8).pixels, a.pixels)
    assert [b.texts for b in one.stream(5, 9)] == [one.batch(step).texts for step in range(5, 9)]


def test_targets_say_which_text_was_written_for_which_image(data: Path) -> None:
    batch = _loader(_recipe(data)).batch(0)
    targets = matrix(batch)
    assert (targets.sum(1) == 1).all()
    for row, column in np.argwhere(targets):
        colour = next(name for name in COLOURS if name in batch.texts[column])
        assert np.abs(batch.pixels[row].mean((0, 1)) - COLOURS[colour]).max() < 12


def test_a_broken_image_is_replaced_and_named(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table = pq.read_table(data / "names-0.parquet").to_pydict()
    table["image"][3] = b"no image"
    pq.write_table(pa.table(table), data / "names-0.parquet")
    assert train(_recipe(data, "steps=8", "validation.zero_shot=", "validation.retrieval=")).model is not None
    said = capfd.readouterr().err
    assert said.count("skipped names-0.parquet#3: ") == 1
    assert "skipped 1 sample," in said
    assert (data / "run" / "skipped" / "process-0.tsv").read_text().startswith("names-0.parquet#3\t")


def test_readers_name_what_they_cannot_read(data: Path) -> None:
    with pytest.raises(DataError, match=r"names-0\.parquet.*image and text"):
        read_parquet(data / "names-0.parquet", "text")
    (data / "bad.tar").write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match=r"bad\.tar"):
        read_webdataset(data / "bad.tar", "captions")
    with pytest.raises(DataError, match="nothing-\\*"):
        _loader(_recipe(data, 'data=[{path="nothing-*", text="x", per_batch=1}]'))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepz=3", "stepz: unknown key; did you mean 'steps'"),
        ("steps=three", "steps: expected a whole number of at least 1, got 'three'"),
        ("precision=float8", "precision: expected one of float32, bfloat16"),
        ("optimiser.learning_rate=[1]", "learning_rate: expected a number"),
        ("model.vision.heads=3", "not divisible"),
        ("nonsense", "expected key=value"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_by_field(data: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _recipe(data, override)


def test_a_checkpoint_of_another_model_is_refused(data: Path) -> None:
    train(_recipe(data, "steps=10"))
    with pytest.raises(DataError, match="does not fit"):
        train(_recipe(data, "steps=20", "model.text.width=32"))


def test_the_command_saves_on_a_signal_and_resumes(data: Path) -> None:
    path = data / "toy.toml"
    path.write_text(RECIPE.format(folder=data / "run", root=data))
    command = ["train", str(path), "log_every_steps=1"]
    with Child(TRAINING, "tandem", *command, "steps=100000") as process:
        assert any(line.startswith("step 3 ") for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(60) == 75  # EX_TEMPFAIL: a scheduler starts it again
    assert "resumes from there" in rest
    saved = next((data / "run" / "checkpoints").glob("step-*"))
    done = int(saved.name.removeprefix("step-"))
    with Child(TRAINING, "tandem", *command, f"steps={done + 2}") as again:
        said = again.stderr.read()
        assert again.wait(60) == 0, said
    assert f"step {done} of {done + 2}" in said
    assert (data / "run" / "model" / "model.safetensors").exists()


ONLY_TORCH = """
import importlib.util, sys
absent = {"openvino", "ml_dtypes", "ftfy", "httpx", "rich", "huggingface_hub", "matplotlib", "tensorboard", "wandb"}
absent |= {"faiss", "lancedb", "pathspec", "pydantic", "shtab", "tqdm"}
sys.modules.update(dict.fromkeys(absent))  # importing one of them is an ImportError now
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in absent else find(name, *rest)
import warnings
warnings.simplefilter("ignore")
import numpy as np
import tandem
from tandem.cli import main
assert main(["train", sys.argv[1], "steps=4"]) == 0
model = tandem.load(sys.argv[2])
assert type(model.engine).__name__ == "TorchEngine"
assert model.classify(np.zeros((32, 32, 3), np.uint8), ["red", "na\u00efve"]).probabilities.shape == (1, 2)
"""


def test_training_and_answering_need_no_more_than_torch_and_its_company(data: Path) -> None:
    """GPU machines have torch, numpy, Pillow, pyarrow, safetensors and tokenizers, and often nothing else."""
    path = data / "toy.toml"
    path.write_text(RECIPE.format(folder=data / "run", root=data))
    command = [sys.executable, "-c", ONLY_TORCH, str(path), str(data / "run" / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_broader_word_holds_for_all_its_names(data: Path) -> None:
    broader = (
        'data=[{path="names-*.parquet", text="names", kind="names", per_batch=12, broader={warm=["red", "white"]}}]'
    )
    batch = _loader(_recipe(data, broader)).batch(0)
    targets = matrix(batch)
    warm = [column for column, text in enumerate(batch.texts) if "warm" in text]
    assert len(warm) == 1
    for row, pixels in enumerate(batch.pixels):
        colour = min(COLOURS, key=lambda name: np.abs(pixels.mean((0, 1)) - COLOURS[name]).sum())
        assert targets[row, warm[0]] == (colour in ("red", "white"))
        assert targets[row].sum() == (2 if colour in ("red", "white") else 1)
