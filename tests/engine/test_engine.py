"""Which engine is built, and what is refused; how batches are cut; what mapped memory is given back."""

import importlib.util
import itertools
import mmap
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from support.engine_toys import TOYS, random_ids, random_pixels, random_tensors

from tandem import engine as engines
from tandem.engine.inputs import end_positions, length_buckets
from tandem.engine.memory import ReleasePages, mappings
from tandem.errors import EngineError, MissingExtraError

TOY = TOYS["vit"]


def build(**options):
    return engines.build(TOY, random_tensors(TOY), **options)


# --- choice ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["raise RuntimeError('no libtbb.so')", ""], ids=["broken", "half"])
def test_an_openvino_that_cannot_be_imported_is_said(tmp_path, content):
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text(content)
    code = "import sys; sys.path.insert(0, sys.argv[1])\nimport tandem.openvino_import"
    found = subprocess.run([sys.executable, "-c", code, tmp_path], check=False, capture_output=True, text=True)
    last = found.stderr.splitlines()[-1]
    assert last.startswith("tandem.errors.EngineError: openvino is installed, but cannot be used (")
    assert "pip install --force-reinstall openvino" in last


def test_auto_is_openvino_in_float32():
    engine = build()
    assert type(engine).__name__ == "OpenVinoEngine"
    assert engine.precision == "float32"
    assert build(engine="torch").precision == "float32"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "onnx"}, "engine: expected one of auto, openvino, torch, got 'onnx'"),
        ({"precision": "int4"}, "precision: expected one of auto, float32, bfloat16, float16, int8, got 'int4'"),
        ({"engine": "openvino", "device": "cuda"}, "device: cuda is served by the torch engine"),
        ({"device": "tpu"}, "device: OpenVINO finds .*cpu.* on this machine, not 'tpu'"),
        ({"engine": "torch", "device": "tpu"}, "device: torch finds cpu.* on this machine, not 'tpu'"),
    ],
)
def test_impossible_wishes_are_refused(options, message):
    with pytest.raises(EngineError, match=message):
        build(**options)


def test_a_device_that_is_not_there():
    torch = pytest.importorskip("torch")
    for device, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if not there:
            with pytest.raises(EngineError, match=f"device: torch finds cpu.* on this machine, not '{device}'"):
                build(device=device)


def test_a_precision_the_cpu_lacks(monkeypatch):
    import tandem.engine.compiled as module

    monkeypatch.setattr(module, "available_precisions", lambda device: ("float32",))
    monkeypatch.setattr(module, "has_bfloat16", lambda: False)
    with pytest.raises(EngineError, match="precision: cpu computes in float32 here, not in 'bfloat16'"):
        build(precision="bfloat16")


def test_available_precisions_are_those_that_build():
    available = engines.available_precisions()
    assert available[0] == "float32"
    for precision in available:
        assert build(precision=precision).precision == precision


def test_without_torch(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    with pytest.raises(
        MissingExtraError, match=r"the torch engine \(cuda\) needs torch; .*-c constraints.txt.*tandem-clip\[train\]"
    ):
        build(device="cuda")
    assert type(build()).__name__ == "OpenVinoEngine"


def run_python(code):
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True)


@pytest.mark.slow
def test_each_engine_runs_without_the_other():
    """The torch engine also serves where openvino is not installed, and is then the automatic choice."""
    for engine, absent in (("openvino", "torch"), ("torch", "openvino")):
        run_python(f"""
            import sys
            sys.modules[{absent!r}] = None
            import importlib.util
            found = importlib.util.find_spec
            importlib.util.find_spec = lambda name, *a: None if name == {absent!r} else found(name, *a)
            from support.engine_toys import TOYS, random_ids, random_pixels, random_tensors
            from tandem.engine import build
            toy = TOYS["vit"]
            engine = build(toy, random_tensors(toy))
            assert type(engine).__module__ == "tandem.engine.{engine}", type(engine)
            engine.encode_images(random_pixels(toy)); engine.encode_texts(random_ids(toy))
        """)


def test_only_the_tower_that_is_used_is_compiled():
    tensors = {name: array for name, array in random_tensors(TOY).items() if name.startswith("visual.")}
    engine = engines.build(TOY, tensors, engine="openvino")
    assert engine.encode_images(random_pixels(TOY)).shape == (5, TOY.embed_dim)
    with pytest.raises(KeyError):
        engine.encode_texts(random_ids(TOY))


@pytest.mark.parametrize(("largest", "in_numpy"), [(16 + 1, True), (16, False)])
def test_the_first_image_is_computed_in_numpy_unless_it_is_large(monkeypatch, largest, in_numpy):
    """A ViT of 4 x 4 patches and a class token."""
    from tandem.engine import openvino as module

    computed = []
    ours = module.numpy_engine.encode_images
    monkeypatch.setattr(module.numpy_engine, "encode_images", lambda *a: (computed.append(len(a[2])), ours(*a))[1])
    monkeypatch.setattr(module, "LARGEST_IMAGE_IN_NUMPY", largest)
    engine = build()
    for _ in range(3):
        engine.encode_images(random_pixels(TOY, n=1))
    assert computed == ([1] if in_numpy else [])


# --- lengths -----------------------------------------------------------------------------------------------------


def test_end_positions_are_the_first():
    ids = np.array([[1, 9, 9, 9], [1, 2, 3, 9]], np.int32)
    np.testing.assert_array_equal(end_positions(ids, 9), [1, 3])


def test_groups_are_a_partition_by_length():
    ends = np.random.default_rng(0).integers(1, 77, 500).astype(np.int32)
    cut = list(length_buckets(ends, 256))
    assert sorted(row for rows, _ in cut for row in rows) == list(range(500))
    for rows, tokens in cut:
        assert tokens == ends[rows].max() + 1
        assert len(rows) == 1 or len(rows) * tokens <= 256
    assert all(ends[a[0]].max() <= ends[b[0]].min() for a, b in itertools.pairwise(cut))
    # nearly nothing is computed for padding
    assert sum(len(rows) * tokens for rows, tokens in cut) < 1.1 * (ends + 1).sum()


def test_a_text_longer_than_a_group_is_a_group():
    assert [(list(rows), tokens) for rows, tokens in length_buckets(np.array([9, 9], np.int32), 4)] == [
        ([0], 10),
        ([1], 10),
    ]
    assert list(length_buckets(np.array([], np.int32))) == []


# --- mapped weights ----------------------------------------------------------------------------------------------


def mapped_tensors(tmp_path, access):
    """The toy's tensors as views on one mapped file, and the mapping."""
    tensors = random_tensors(TOY)
    path = tmp_path / "weights"
    path.write_bytes(b"".join(array.tobytes() for array in tensors.values()))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=access)
    views, offset = {}, 0
    for name, array in tensors.items():
        views[name] = np.frombuffer(mapped, np.float32, array.size, offset).reshape(array.shape)
        offset += array.nbytes
    return tensors, views, mapped


@pytest.mark.parametrize("access", [mmap.ACCESS_READ, mmap.ACCESS_COPY])
def test_mapped_weights_give_the_same_vectors(tmp_path, access):
    tensors, views, mapped = mapped_tensors(tmp_path, access)
    for array in views.values():
        array.flags.writeable = False
    assert mappings(views.values()) == [mapped]
    ours, plain = engines.build(TOY, views, engine="openvino"), engines.build(TOY, tensors, engine="openvino")
    for _ in range(2):
        np.testing.assert_array_equal(ours.encode_images(random_pixels(TOY)), plain.encode_images(random_pixels(TOY)))
        np.testing.assert_array_equal(ours.encode_texts(random_ids(TOY)), plain.encode_texts(random_ids(TOY)))
        ours.release()
    for name, array in tensors.items():
        np.testing.assert_array_equal(views[name], array)


def test_what_was_written_into_a_private_mapping_stays(tmp_path):
    _, views, _ = mapped_tensors(tmp_path, mmap.ACCESS_COPY)
    views["visual.proj"][:] = 7
    assert mappings(views.values()) == []
    engines.build(TOY, views, engine="openvino").encode_images(random_pixels(TOY))
    assert (views["visual.proj"] == 7).all()


def test_arrays_in_plain_memory_have_no_mapping():
    assert mappings(random_tensors(TOY).values()) == []
    with ReleasePages([]):
        pass


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED") or sys.platform != "linux", reason="measured on Linux")
@pytest.mark.slow
def test_pages_are_given_back(tmp_path):
    """A mapped file that was read through leaves no more resident than it must."""
    path = tmp_path / "file"
    path.write_bytes(bytes(64 << 20))
    script = f"""
        import mmap, numpy as np
        from pathlib import Path
        from tandem.engine.memory import ReleasePages, mappings
        file = open({str(path)!r}, "rb")
        array = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        def resident():
            lines = [l.split() for l in Path("/proc/self/status").read_text().splitlines()]
            return sum(int(l[1]) for l in lines if l and l[0] in ("RssFile:", "RssShmem:")) >> 10  # on disk, in memory
        before = resident()
        array.sum()
        assert resident() - before > 60, (before, resident())
        with ReleasePages(mappings([array])):
            array.sum()
        assert resident() - before < 4, (before, resident())
        assert array.sum() == 0
    """
    run_python(script)


def test_tensors_that_offer_their_parts_are_never_stacked():
    class Apart(dict):
        """q, k and v apart, as transformers' files hold them."""

        def parts(self, name):
            return np.split(tensors[name], 3) if "in_proj" in name else (tensors[name],)

    tensors = random_tensors(TOY)
    apart = Apart({name: None if "in_proj" in name else array for name, array in tensors.items()})
    ours, plain = engines.build(TOY, apart, engine="openvino"), engines.build(TOY, tensors, engine="openvino")
    np.testing.assert_array_equal(ours.encode_images(random_pixels(TOY)), plain.encode_images(random_pixels(TOY)))
    np.testing.assert_array_equal(ours.encode_texts(random_ids(TOY)), plain.encode_texts(random_ids(TOY)))
