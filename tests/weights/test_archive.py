"""Files of torch.save and torch.jit.save, read without torch; hostile ones, where nothing may run."""

import collections
import io
import os
import pickle
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import weights_toys as toys

from tandem import weights
from tandem.errors import WeightsError
from tandem.weights.tensor_files import read_archive

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def saved(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


# --- plain torch.save ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_dtype_stride_offset_and_shared_storage(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "half": torch.randn(3, 5).half(),
        "bfloat": torch.randn(7).bfloat16(),
        "double": torch.randn(2, 2).double(),
        "long": torch.tensor(224),
        "bool": torch.tensor([True, False]),
        "byte": torch.tensor([1, 255], dtype=torch.uint8),
        "transposed": base.t(),
        "slice": base[1:3, 2:5],
        "whole": base,
        "scalar": torch.tensor(4.6),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(3)),
    }
    path = saved(tmp_path / "a.pt", state, _use_new_zipfile_serialization=zipped)
    archive = read_archive(path)
    assert not archive.torchscript
    assert sorted(archive.tensors) == sorted(state)
    for name, tensor in state.items():
        array = archive.tensors[name]
        assert array.shape == tuple(tensor.shape), name
        expected = tensor.detach().float().numpy() if name == "bfloat" else tensor.detach().numpy()
        np.testing.assert_array_equal(array.astype(expected.dtype), expected, err_msg=name)
        if name != "bfloat":
            assert array.dtype == expected.dtype
    assert archive.tensors["bfloat"].dtype.name == "bfloat16"
    assert all(array.flags.c_contiguous for array in archive.tensors.values())


def test_a_training_checkpoint_gives_its_state_dict(tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    layer(torch.randn(4, 3)).sum().backward()
    optimiser.step()
    state = {f"module.{name}": tensor for name, tensor in layer.state_dict().items()}
    path = saved(
        tmp_path / "epoch_3.pt",
        {
            "epoch": 3,
            "name": "run",
            "state_dict": collections.OrderedDict(state),
            "optimizer": optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "sizes": torch.Size([1, 2]),
            "dtype": torch.float16,
            "seen": {1, 2},
        },
    )
    archive = read_archive(path)
    assert sorted(archive.tensors) == ["module.bias", "module.weight"]
    assert {"epoch", "name", "optimizer"} <= set(archive.extra_keys)
    np.testing.assert_array_equal(archive.tensors["module.weight"], layer.weight.detach().numpy())


@pytest.mark.parametrize("key", ["state_dict", "model", "module", "model_state_dict"])
def test_nested_mappings(tmp_path: Path, key: str) -> None:
    path = saved(
        tmp_path / "a.ckpt", {key: {"state_dict": {"w": torch.ones(2)}} if key == "model" else {"w": torch.ones(2)}}
    )
    assert list(read_archive(path).tensors) == ["w"]


def test_a_state_dict_saved_from_a_module_carries_attributes(tmp_path: Path) -> None:
    state = torch.nn.BatchNorm2d(4).state_dict()
    assert state._metadata  # set on the mapping by torch; it travels in the pickle
    assert "running_mean" in read_archive(saved(tmp_path / "bn.pt", state)).tensors


def test_a_compressed_archive_is_refused_since_nobody_knows_what_it_unfolds_to(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"w": torch.arange(1000.0)})
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(WeightsError, match=r"packed\.pt: \S+ is compressed, .*zip -0"):
        read_archive(packed)


def test_a_big_endian_archive_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"w": torch.arange(5.0)})
    swapped = tmp_path / "big.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(swapped, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("/byteorder"):
                content = b"big"
            elif "/data/" in name:
                content = np.frombuffer(content, "<f4").astype(">f4").tobytes()
            target.writestr(name, content)
    np.testing.assert_array_equal(read_archive(swapped).tensors["w"], np.arange(5, dtype=np.float32))


def test_arrays_can_be_written_to_and_the_file_stays(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"w": torch.ones(100)})
    before = path.read_bytes()
    read_archive(path).tensors["w"][:] = 7
    assert path.read_bytes() == before


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"w": torch.ones(2)})
    program = (
        "import sys; from pathlib import Path; from tandem.weights.tensor_files import read_archive; "
        f"assert read_archive(Path({str(path)!r})).tensors['w'].sum() == 2; "
        "assert not {'torch', 'openvino', 'huggingface_hub', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# --- TorchScript -----------------------------------------------------------------------------------------------------

SIZES = {"input_resolution": 32, "context_length": 16, "vocab_size": toys.VOCABULARY}


@pytest.mark.parametrize("make", [toys.vit, toys.resnet], ids=["vit", "resnet"])
def test_an_archive_like_openais_becomes_a_model(tmp_path: Path, make: Any) -> None:
    config = make()
    arrays = toys.tensors(config, np.float16)
    path = tmp_path / "ViT-toy.pt"
    state = toys.to_torch(arrays)
    for name in [name for name in state if name.endswith("running_mean")]:
        state[name.replace("running_mean", "num_batches_tracked")] = torch.tensor(0)
    toys.save_torchscript(path, state, SIZES)
    read = weights.read(path, tokenizer=toys.tokenizer(config))
    toys.same(read.tensors, arrays)
    assert read.config.vision == config.vision
    assert read.config.text == config.text
    assert read.config.notes == {}  # OpenAI's activation is known
    assert read.config.name == "ViT-toy"


def test_attention_masks_in_the_archive_are_dropped(tmp_path: Path) -> None:
    config = toys.vit()
    arrays = toys.tensors(config, np.float16)
    state = toys.to_torch(arrays) | {"transformer.resblocks.0.attn_mask": torch.zeros(16, 16)}
    toys.save_torchscript(tmp_path / "a.pt", state, SIZES)
    _, tensors = weights.read_tensors(tmp_path / "a.pt")
    toys.same(tensors, arrays)


# --- hostile files ---------------------------------------------------------------------------------------------------


class Command:
    """Runs a command when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("place", ["beside", "inside", "list", "root"])
@pytest.mark.parametrize("container", ["zip", "legacy", "torchscript", "pickle"])
def test_a_hostile_pickle_is_refused_and_nothing_runs(
    tmp_path: Path, container: str, place: str, protocol: int
) -> None:
    target, path = tmp_path / "ran", tmp_path / "model.pt"
    evil = Command(target)
    value: Any = {
        "beside": {"state_dict": {"w": torch.ones(2)}, "extra": evil},
        "inside": {"w": torch.ones(2), "v": evil},
        "list": [evil, {"w": torch.ones(2)}],
        "root": evil,
    }[place]
    if container in ("zip", "legacy"):
        saved(path, value, pickle_protocol=max(protocol, 2), _use_new_zipfile_serialization=container == "zip")
    elif container == "pickle":
        path.write_bytes(pickle.dumps(evil if place == "root" else [evil], protocol=max(protocol, 2)))
    else:
        toys.save_torchscript(path, {"w": torch.ones(2)}, {})
        _replace_entry(path, "data.pkl", pickle.dumps({"w": evil} if place != "root" else evil, protocol=protocol))
    with pytest.raises(WeightsError) as error:
        weights.read(path)
    assert str(path) in str(error.value)
    assert "system" in str(error.value)
    assert not target.exists()
    # the attack is real: plain pickle would have run it
    pickle.loads(pickle.dumps(evil))
    assert target.exists()


@pytest.mark.parametrize(
    "name", ["builtins eval", "builtins getattr", "torch.hub load", "tandem.weights.archive _run", "numpy load"]
)
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / "a.pt", {"w": torch.ones(2)})
    module, function = name.split()
    _replace_entry(path, "data.pkl", f"c{module}\n{function}\n(X\x01\x00\x00\x001tR.".encode())
    with pytest.raises(WeightsError, match=f"refused.*{module}.{function}"):
        read_archive(path)


@pytest.mark.parametrize(
    "target",
    [
        "ctorch._utils\n_rebuild_tensor_v2\n",
        "ctorch\nFloatStorage\n",
        "cbuiltins\nset\n",
        "ccollections\nOrderedDict\n",
    ],
)
def test_a_pickle_cannot_change_what_it_may_use(tmp_path: Path, target: str) -> None:
    path = saved(tmp_path / "a.pt", {"w": torch.ones(2)})
    for state in ("}X\x03\x00\x00\x00abcK\x01s", "N}X\x03\x00\x00\x00abcK\x01s\x86"):
        _replace_entry(path, "data.pkl", f"{target}{state}b.".encode())
        with pytest.raises(WeightsError, match="damaged or unknown"):
            read_archive(path)
    assert not hasattr(collections.OrderedDict, "abc")


def test_a_pickle_cannot_set_the_state_of_a_tensor(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"w": torch.arange(4.0)})
    program = tensor_pickle(0, (4,), (1,))
    at = program.rindex(b"R") + 1
    at += 2 if program[at : at + 1] == b"q" else 0
    _replace_entry(path, "data.pkl", program[:at] + b"(K\x01K\x02tb" + program[at:])
    with pytest.raises(WeightsError, match="assignment to a tensor"):
        read_archive(path)


def test_modules_nested_in_themselves_end(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    toys.save_torchscript(path, {"w": torch.ones(2)}, {})
    _replace_entry(path, "data.pkl", b"c__torch__\nM\n)\x81q\x00}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00ub.")
    with pytest.raises(WeightsError, match=r"a\.pt: .* nested in themselves"):
        read_archive(path)


def test_a_whole_module_is_refused_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "module.pt", torch.nn.Linear(2, 2))
    with pytest.raises(WeightsError, match=r"module.pt: refused.*torch.nn.modules.linear.Linear.*state_dict"):
        read_archive(path)


def test_jit_classes_are_admitted_in_torchscript_only(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"w": torch.ones(2)})
    _replace_entry(path, "data.pkl", b"c__torch__.Model\nA\n)\x81.")
    with pytest.raises(WeightsError, match="refused"):
        read_archive(path)


def _replace_entry(path: Path, name: str, content: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, old in entries.items():
            archive.writestr(entry, content if entry.endswith(f"/{name}") else old)


def tensor_pickle(offset: int, size: tuple[int, ...], stride: tuple[int, ...], count: int = 4, key: str = "0") -> bytes:
    """A pickle of `{"w": _rebuild_tensor_v2(...)}` with any numbers in it."""

    class Persistent(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return obj.pid if isinstance(obj, Storage) else None

    class Storage:
        pid = ("storage", torch.FloatStorage, key, "cpu", count)

    class Tensor:
        def __reduce__(self) -> Any:
            arguments = (Storage(), offset, size, stride, False, collections.OrderedDict())
            return torch._utils._rebuild_tensor_v2, arguments

    stream = io.BytesIO()
    Persistent(stream, protocol=2).dump({"w": Tensor()})
    return stream.getvalue()


def test_a_crafted_tensor_within_its_storage_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"w": torch.arange(4.0)})
    _replace_entry(path, "data.pkl", tensor_pickle(1, (3,), (1,)))
    np.testing.assert_array_equal(read_archive(path).tensors["w"], [1, 2, 3])


@pytest.mark.parametrize(
    ("offset", "size", "stride", "count", "key"),
    [
        (0, (5,), (1,), 4, "0"),
        (2, (3,), (1,), 4, "0"),
        (0, (2,), (4,), 4, "0"),
        (0, (2,), (-1,), 4, "0"),
        (-1, (2,), (1,), 4, "0"),
        (0, (2, 2), (1,), 4, "0"),
        (0, (10**12,), (0,), 4, "0"),
        (0, (4,), (1,), 10**12, "0"),
        (0, (4,), (1,), -4, "0"),
        (0, (4,), (1,), 4, "7"),
        (0, (4,), (1,), 4, "../data.pkl"),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(
    tmp_path: Path, offset: int, size: Any, stride: Any, count: int, key: str
) -> None:
    path = saved(tmp_path / "a.pt", {"w": torch.arange(4.0)})
    _replace_entry(path, "data.pkl", tensor_pickle(offset, size, stride, count, key))
    with pytest.raises(WeightsError, match=r"a\.pt"):
        read_archive(path)


# --- damaged files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["zip", "legacy", "torchscript"])
def test_truncated_anywhere_names_the_file(tmp_path: Path, container: str) -> None:
    path = tmp_path / "whole.pt"
    state = {"a.weight": torch.randn(40, 3), "b": torch.randn(5)}
    if container == "torchscript":
        toys.save_torchscript(path, state, {})
    else:
        saved(path, state, _use_new_zipfile_serialization=container == "zip")
    content = path.read_bytes()
    cut = tmp_path / "cut.pt"
    for length in [0, 1, 3, 4, 30, *range(64, len(content) - 1, max(1, len(content) // 25)), len(content) - 1]:
        cut.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"cut\.pt"):
            weights.read_tensors(cut)


@pytest.mark.parametrize("container", ["zip", "legacy", "torchscript"])
def test_flipped_bytes_never_escape_as_anything_else(tmp_path: Path, container: str) -> None:
    path = tmp_path / "whole.pt"
    state = {"a.weight": torch.randn(4, 3), "b": torch.randn(5)}
    if container == "torchscript":
        toys.save_torchscript(path, state, {})
    else:
        saved(path, state, _use_new_zipfile_serialization=container == "zip")
    content = path.read_bytes()
    draw = random.Random(0)
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            read_archive(path)
        except WeightsError as error:
            assert str(path) in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"<html>not found</html>" * 10, "first bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"PK\x03\x04" + bytes(200), "damaged"),
    ],
)
def test_what_is_no_checkpoint_says_so(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=says):
        weights.read(path)


def test_no_tensors_says_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"expected tensors by name.*found epoch, loss"):
        read_archive(saved(tmp_path / "a.pt", {"epoch": 1, "loss": 0.5}))
    with pytest.raises(WeightsError, match="found list"):
        read_archive(saved(tmp_path / "b.pt", [torch.ones(1)]))
