"""`tandem interpolate`: the ends are the models themselves, the middle is the mean, what does not belong is refused."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support import toy, training_toys

import tandem
from tandem import bpe, weights
from tandem.cli import main
from tandem.config import Preprocessing
from tandem.errors import ConfigError
from tandem.tokenizer import TextFormat, Tokenizer
from tandem.train.data.loader import Loader
from tandem.train.interpolate import interpolate
from tandem.train.run.statistics import measure_statistics


@pytest.mark.parametrize("vision", ["vit", "resnet"])
def test_the_ends_are_the_models_and_the_middle_is_their_mean(vision: str) -> None:
    a, b = toy.checkpoint(vision, 1), toy.checkpoint(vision, 2)
    for alpha, end in ((0.0, a), (1.0, b)):
        found = interpolate(a, b, alpha).tensors
        assert all(np.array_equal(found[name], array) for name, array in end.tensors.items())
    quarter = interpolate(a, b, 0.25).tensors
    assert quarter.keys() == a.tensors.keys()
    for name, array in quarter.items():
        np.testing.assert_allclose(array, 0.75 * a.tensors[name] + 0.25 * b.tensors[name], rtol=1e-6, atol=1e-7)
        assert array.dtype == a.tensors[name].dtype


def test_half_precision_is_averaged_in_full() -> None:
    a, b = toy.checkpoint(), toy.checkpoint(seed=2)
    half = {name: array.astype(np.float16) for name, array in a.tensors.items()}
    found = interpolate(dataclasses.replace(a, tensors=half), dataclasses.replace(b, tensors=half), 0.3).tensors
    assert all(np.array_equal(found[name], array) for name, array in half.items())  # of equals, the same bits
    assert found["ln_final.weight"].dtype == np.float16
    mixed = interpolate(dataclasses.replace(a, tensors=half), b, 0.3).tensors
    assert mixed["ln_final.weight"].dtype == np.float32


@pytest.mark.parametrize("places", [(0, 1), (1, 0)])
def test_rounded_weights_are_not_averaged(places: tuple[int, int]) -> None:
    source = toy.checkpoint()
    both = (source, toy.quantized(source))
    with pytest.raises(
        ConfigError, match=r"interpolating takes weights in floating point.*take toy, which it was made"
    ):
        interpolate(both[places[0]], both[places[1]], 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed_dim": 16}, "embed_dim is 12 in the first, 16 in the second"),
        ({"preprocessing": Preprocessing(toy.SIZE, mean=(0.5, 0.5, 0.5))}, r"preprocessing\.mean"),
        ({"activation": "quick_gelu"}, r"vision\.activation"),
    ],
)
def test_what_differs_is_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        interpolate(toy.checkpoint(), toy.checkpoint(**change), 0.5)


def test_other_tokenizers_and_shares_are_refused() -> None:
    a = toy.checkpoint()
    table = bpe.from_merges([("d", "o"), ("c", "a"), ("ca", "t</w>")])
    words = Tokenizer(table, TextFormat(a.config.text.start_id, a.config.text.end_id))
    with pytest.raises(ConfigError, match="tokenizers differ"):
        interpolate(a, dataclasses.replace(a, tokenizer=words), 0.5)
    for alpha in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=r"alpha: expected a number from 0"):
            interpolate(a, a, alpha)


def test_name_licence_and_data_say_where_it_comes_from() -> None:
    a, b = toy.checkpoint(name="one"), toy.checkpoint(name="other", data="photos")
    config = interpolate(a, b, 0.5).config
    assert config.name == "one and other at 0.5"
    assert (config.licence, config.data) == ("CC0", "none; photos")


def test_the_command_writes_a_model_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (str(toy.folder(tmp_path / name, seed=seed)) for seed, name in enumerate("ab"))
    target = tmp_path / "c"
    assert main(["interpolate", a, b, "--alpha", "0.25", "--to", str(target), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    model = tandem.load(target)
    assert document["model"]["fingerprint"] == model.fingerprint
    assert model.embed_texts(["a cat"]).shape == (1, toy.DIMENSIONS)
    wanted = interpolate(weights.read(a), weights.read(b), 0.25)
    assert weights.fingerprint(wanted) == model.fingerprint
    assert main(["interpolate", a, b, "--to", str(target)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["interpolate", a, b, "--alpha", "1", "--to", str(target), "--overwrite"]) == 0
    assert (
        tandem.load(target).tensors["ln_final.weight"].tobytes() == tandem.load(b).tensors["ln_final.weight"].tobytes()
    )


@pytest.mark.slow
def test_it_needs_no_torch(tmp_path: Path) -> None:
    a, b = (str(toy.folder(tmp_path / name, seed=seed)) for seed, name in enumerate("ab"))
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tandem.cli import main\n"
        f"sys.exit(main(['interpolate', {a!r}, {b!r}, '--to', {str(tmp_path / 'c')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_statistics_are_those_of_the_recipe_s_images(tmp_path: Path) -> None:
    training_toys.write_parquet(tmp_path / "names.parquet")
    early = [{"start": 0.0, "image_size": 8}]  # it ends at the size of the model, at which images are seen
    recipe = training_toys.recipe(tmp_path, {**training_toys.NAMED, "crop": [0.1, 0.2]}, stages=early)
    mixed = interpolate(toy.checkpoint("resnet", 1), toy.checkpoint("resnet", 2), 0.5)
    found = measure_statistics(mixed, recipe, images=21)
    statistics = {name for name in mixed.tensors if "running_" in name}
    assert statistics
    for name, array in mixed.tensors.items():
        assert np.array_equal(found.tensors[name], array) == (name not in statistics), name
        assert found.tensors[name].dtype == array.dtype
    # The first norm's: of what the first convolution makes of the middle squares, whole, not of the recipe's crops.
    whole = dataclasses.replace(recipe.data[0], augment="none")
    loader = Loader(dataclasses.replace(recipe, data=(whole,), model=mixed.config, stages=()), mixed.tokenizer)
    means = []
    for step in range(3):  # of ten images each
        pixels = torch.from_numpy(loader.batch(step).pixels).permute(0, 3, 1, 2).double() / 255
        mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (mean_of(mixed), std_of(mixed)))
        weight = torch.from_numpy(mixed.tensors["visual.conv1.weight"]).double()
        means.append(torch.nn.functional.conv2d((pixels - mean) / std, weight, stride=2, padding=1).mean((0, 2, 3)))
    np.testing.assert_allclose(found.tensors["visual.bn1.running_mean"], torch.stack(means).mean(0), atol=1e-4)


def mean_of(checkpoint: weights.Checkpoint) -> tuple[float, ...]:
    return checkpoint.config.preprocessing.mean


def std_of(checkpoint: weights.Checkpoint) -> tuple[float, ...]:
    return checkpoint.config.preprocessing.std


def test_what_has_no_batch_norms_has_no_statistics(tmp_path: Path) -> None:
    training_toys.write_parquet(tmp_path / "names.parquet")
    with pytest.raises(ConfigError, match="no batch norms"):
        measure_statistics(toy.checkpoint("vit"), training_toys.recipe(tmp_path, training_toys.NAMED))
