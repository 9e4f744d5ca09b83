"""What the torch engine does on a GPU, on a processor: the same code over streams that check how they are used."""

import dataclasses
import itertools
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.engine_toys import EVERY_DAY, TOYS, random_ids, random_pixels, random_tensors

import tandem
from tandem.config import Bert
from tandem.encoding import Encoder
from tandem.engine import inputs
from tandem.errors import EngineError
from tandem.search.indexing.entries import Entry, FileSignature
from tandem.search.indexing.local import encoded_batches
from tandem.search.indexing.preparing import PreparedImage

torch = pytest.importorskip("torch")
from tandem import nn  # noqa: E402
from tandem.engine import torch as module  # noqa: E402
from tandem.engine.torch import TorchEngine  # noqa: E402
from tandem.engine.torch_batches import Batches, padded_size  # noqa: E402
from tandem.engine.torch_device import TYPES, lower, torch_device  # noqa: E402
from tandem.engine.torch_streams import HostStreams  # noqa: E402

LARGEST = 4
BERT = Bert(20, 100, 32, 2, 4, 48, positions=26, start_id=98, end_id=99)
MODELS = {name: TOYS[name] for name in EVERY_DAY} | {"bert": dataclasses.replace(TOYS["vit"], text=BERT)}


class StrictStreams(HostStreams):
    """Refuses what would be a race on a device: memory that is written while a copy or a computation still reads it."""

    def __init__(self):
        super().__init__()
        self.clock = itertools.count()
        self.waited: set[int] = set()
        self.copies: dict[int, int] = {}  # of host memory: the mark of its last copy
        self.read: dict[int, int] = {}  # of the device's: when its content was handed on
        self.targets: dict[int, int] = {}  # mark of a copy -> where to
        self.sizes: list[tuple[int, ...]] = []
        self.recorded: list[tuple[int, ...]] = []
        self.results: set[int] = set()  # marks of downloads
        self.log: list[str] = []  # what was handed over and what was waited for, in order

    def upload(self, host, target, after):
        before = self.copies.get(host.data_ptr())
        assert before is None or before in self.waited, "host memory was written to before its last copy was done"
        read = self.read.get(target.data_ptr())
        assert read is None or (after is not None and after > read), "copied over what is still computed with"
        super().upload(host, target, after)
        mark = next(self.clock)
        self.copies[host.data_ptr()], self.targets[mark] = mark, target.data_ptr()
        self.sizes.append(tuple(target.shape))
        self.log.append("upload")
        return mark

    def download(self, there):
        host, mark = super().download(there)
        self.results.add(mark)
        return host, mark

    def mark(self):
        return next(self.clock)

    def compute_after(self, mark):
        self.read[self.targets[mark]] = next(self.clock)

    def wait(self, mark):
        if mark in self.results:
            self.log.append("results")
        self.waited.update(range(mark + 1))  # the computation up to a moment has waited for its copies

    def record(self, function, given):
        self.recorded.append(tuple(given.shape))
        return super().record(function, given)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setitem(module.BATCH_IMAGES, "cpu", LARGEST)
    monkeypatch.setitem(module.BATCH_TOKENS, "cpu", 48)


def engines(name, precision="float32"):
    toy, streams = (MODELS | TOYS)[name], StrictStreams()
    tensors = random_tensors(toy)
    return TorchEngine(toy, tensors, precision=precision), TorchEngine(
        toy, tensors, precision=precision, streams=streams
    )


@pytest.mark.parametrize("name", MODELS)
def test_streams_and_recordings_change_nothing(name):
    plain, streamed = engines(name)
    ids, pixels = random_ids(MODELS[name], (9, 3, 12, 2, 7, 3, 3, 12, 5)), random_pixels(MODELS[name], n=11)
    images, texts = plain.encode_images(pixels), plain.encode_texts(ids)
    for n in (2, 11):  # sizes grow and shrink: 2, 4, 4 (recorded), 3 in 4 (repeated)
        np.testing.assert_allclose(streamed.encode_images(pixels[:n]), images[:n], atol=1e-5)
        np.testing.assert_allclose(streamed.encode_texts(ids[:n]), texts[:n], atol=1e-5)
    assert streamed._batches.streams.recorded
    given = {"normalize": False}
    pixels = pixels[:3].astype(np.float32)
    whole = plain.encode_images(pixels, **given)
    np.testing.assert_allclose(streamed.encode_images(pixels, **given), whole, rtol=1e-4, atol=1e-5)


def test_a_batch_crosses_the_bus_as_it_came_and_is_padded_there():
    _, streamed = engines("vit")
    streams = streamed._batches.streams
    for _ in range(3):
        streamed.encode_images(random_pixels(MODELS["vit"], n=7))
    assert streams.sizes == [(4, 32, 32, 3), (3, 32, 32, 3)] * 3
    assert streams.recorded == [(4, 32, 32, 3)]  # 7 images are two batches of the size 4; recorded at its second
    streamed.release()
    streamed.encode_images(random_pixels(MODELS["vit"], n=3))
    assert len(streams.recorded) == 1
    streamed.encode_images(random_pixels(MODELS["vit"], n=3))
    assert len(streams.recorded) == 2


OVERLAPPING = ["upload", "upload", "results", "upload", "results", "results"]  # of three batches


class Bare(Encoder):
    """An encoder of arrays that are ready."""

    name = "toy"

    def __init__(self, engine):
        self.engine = engine


def test_the_next_batch_crosses_the_bus_before_the_results_of_this_one_are_waited_for():
    plain, streamed = map(Bare, engines("vit"))
    batches = np.split(random_pixels(MODELS["vit"], n=12), 3)
    found = list(streamed.finished(streamed.begin_pixels(batch) for batch in batches))
    assert streamed.engine._batches.streams.log == OVERLAPPING
    assert not plain.overlaps
    for mine, pixels in zip(found, batches, strict=True):
        np.testing.assert_allclose(mine, plain.encode_pixels(pixels), atol=1e-5)


def test_images_that_stream_give_the_device_a_batch_ahead():
    """`embed_images`, and indexing, with batches as large as those of the engine."""
    shipped = tandem.load(precision="float32")
    engine = TorchEngine(shipped.config, shipped.tensors, streams=StrictStreams())
    model = tandem.Model(shipped.checkpoint, engine)
    size = model.config.vision.image_size
    image = np.zeros((size, size, 3), np.uint8)
    vectors = model.embed_images([image] * (3 * LARGEST), batch_size=LARGEST, progress=False)
    assert engine._batches.streams.log == OVERLAPPING
    engine._batches.streams.log.clear()
    entries = [Entry(str(i), FileSignature(1, 1, 1), str(i)) for i in range(3 * LARGEST)]

    def prepared(entry):
        return PreparedImage(entry, values={}, pixels=image)

    outcomes = [each for batch in encoded_batches(prepared, entries, model, LARGEST) for each in batch]
    assert engine._batches.streams.log == OVERLAPPING
    np.testing.assert_allclose([outcome.vector for outcome in outcomes], vectors, atol=1e-6)


def test_images_of_a_batch_that_could_not_be_begun_are_indexed_one_by_one():
    class Small:
        overlaps, precision = True, "float32"

        def begin_images(self, pixels, *, normalize=True):
            if len(pixels) > 1:
                raise EngineError("too much")
            return lambda: np.ones((1, 3), np.float32)

        def encode_images(self, pixels, *, normalize=True):
            return self.begin_images(pixels)()

    images = [
        PreparedImage(Entry(str(i), FileSignature(1, 1, 1), str(i)), values={}, pixels=np.zeros((4, 4, 3), np.uint8))
        for i in range(5)
    ]
    outcomes = [each for batch in encoded_batches(lambda image: image, images, Bare(Small()), 2) for each in batch]
    assert [outcome.entry.path for outcome in outcomes] == list("01234")
    assert all(outcome.vector is not None for outcome in outcomes)


def test_an_error_of_a_batch_that_was_begun_is_raised_in_its_turn():
    _, streamed = map(Bare, engines("vit"))
    good, bad = random_pixels(MODELS["vit"], n=2), np.full((2, 32, 32, 3), np.nan, np.float32)
    found = streamed.finished(streamed.begin_pixels(batch) for batch in (good, bad, good))
    assert len(next(found)) == 2
    with pytest.raises(EngineError):
        next(found)


def test_sizes_of_batches():
    assert [padded_size(n, 256) for n in (1, 2, 3, 4, 5, 129, 256)] == [1, 2, 4, 4, 8, 256, 256]
    assert padded_size(70, 96) == 96


@pytest.mark.parametrize("name", ["vit", "siglip", "bert"])
def test_texts_have_few_shapes(name):
    text = MODELS[name].text
    ids = random_ids(MODELS[name], tuple(range(2, 20)) * 3)
    seen = np.zeros(len(ids), int)
    for rows, cut in inputs.fixed_buckets(ids, text, 48):
        seen[rows] += 1
        assert cut.shape[1] == text.context_length or cut.shape[1] % inputs.LENGTH_STEP == 0
        assert len(rows) == 1 or cut.size <= 48
    assert (seen == 1).all()


def test_ids_are_never_what_was_in_memory_before():
    """Batches share memory: after pixels it is full of what would be no ids."""
    _, streamed = engines("vit")
    seen = []
    original = streamed._of_texts
    streamed._of_texts = lambda ids, normalize: (seen.append(ids.clone()), original(ids, normalize))[1]
    streamed.encode_images(np.full((4, 32, 32, 3), 255, np.uint8))
    streamed.encode_texts(random_ids(MODELS["vit"], (5, 5, 5)))
    assert [tuple(ids.shape) for ids in seen] == [(4, 8)]
    assert ((seen[0] >= 0) & (seen[0] < 100)).all()


def test_a_batch_that_does_not_fit_is_cut():
    calls = []

    def function(x):
        calls.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x.float() + 1

    batches = Batches(torch.device("cpu"), StrictStreams())
    rows = np.arange(10, dtype=np.float32)[:, None]
    for _ in range(2):
        np.testing.assert_array_equal(batches.run("key", function, [rows[:7], rows[7:]], 1, 8), rows + 1)
    assert calls[:2] == [8, 4]
    assert max(calls[2:]) == 2  # what did not fit is not tried again


def test_threads_take_turns_on_a_device():
    """Batches of two would share memory."""
    busy, seen = threading.Event(), threading.Event()

    def function(x):
        if busy.is_set():
            seen.set()
        busy.set()
        seen.wait(0.1)  # for another thread, which must not come here
        busy.clear()
        return x + 1

    batches = Batches(torch.device("cpu"), HostStreams())
    rows = np.arange(2, dtype=np.float32)[:, None]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda by: batches.run(by, function, [rows + by], 1, 8), (10, 20)))
    assert not seen.is_set()
    assert [each.ravel().tolist() for each in found] == [[11, 12], [21, 22]]


def test_memory_that_is_still_read_is_not_given_back_for_more():
    class Growing(StrictStreams):
        def host_memory(self, size):
            _, growing = batches._slots
            assert growing.consumed is None or growing.consumed in self.waited, "given back while it is computed with"
            return super().host_memory(size)

    batches = Batches(torch.device("cpu"), Growing())
    rows = np.arange(8, dtype=np.float32)[:, None]
    found = batches.run("key", lambda x: x + 1, [rows[:1], rows[:1], rows], 1, 8)
    assert found.ravel().tolist() == [1, 1, *range(1, 9)]


def test_what_cannot_be_recorded_is_computed_all_the_same():
    class NoRecordings(StrictStreams):
        def record(self, function, given):
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    batches = Batches(torch.device("cpu"), NoRecordings())
    rows = np.arange(4, dtype=np.float32)[:, None]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            np.testing.assert_array_equal(batches.run("key", lambda x: x + 1, [rows], 1, 8), rows + 1)
            rows = rows[::-1]
    said = "cpu: kernels are launched one by one, which is slower (operation not permitted when stream is capturing)"
    assert [str(each.message) for each in seen] == [said]


def test_memory_for_not_even_one():
    def function(x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    batches = Batches(torch.device("cpu"), StrictStreams())
    with pytest.raises(EngineError, match="cpu: its memory is too small for one image or text; free some"):
        batches.run("key", function, [np.zeros((3, 1), np.float32)], 1, 8)


@pytest.mark.parametrize(("name", "precision"), [*((name, "bfloat16") for name in MODELS), ("vit", "float16")])
def test_weights_are_rounded_once_to_the_same_bits(name, precision):
    toy = MODELS[name]
    whole = nn.from_arrays(toy, random_tensors(toy))
    engine = TorchEngine(toy, random_tensors(toy), precision=precision)
    pixels, ids = random_pixels(toy, n=2), random_ids(toy, (9, 4))
    vectors = engine.encode_images(pixels), engine.encode_texts(ids)
    rounded = sum(p.dtype is TYPES[precision] for p in engine._model.parameters())
    assert rounded >= 2 * (toy.text.layers + 1)
    engine._model.load_state_dict(whole.state_dict(), assign=True)
    np.testing.assert_array_equal(engine.encode_images(pixels), vectors[0])
    np.testing.assert_array_equal(engine.encode_texts(ids), vectors[1])


def test_gains_and_embeddings_are_not_rounded():
    model = nn.from_arrays(MODELS["resnet-bottleneck"], random_tensors(MODELS["resnet-bottleneck"]))
    lower(model, "bfloat16")
    left = {name for name, parameter in model.named_parameters() if parameter.dtype is torch.float32}
    assert {"text.token_embedding.weight", "text.ln_final.weight", "visual.bn1.weight", "logit_scale"} <= left
    assert not {"visual.conv1.weight", "text.text_projection", "visual.attnpool.q_proj.weight"} & left


@pytest.mark.slow
def test_only_full_batches_are_compiled():
    shapes = []

    def backend(graph, given):
        shapes.extend(len(x) for x in given if x.dim() == 3)
        return graph.forward

    plain, streamed = engines("vit-gelu-odd")
    streamed.compile_image_tower(backend=backend)
    pixels = random_pixels(TOYS["vit-gelu-odd"], n=2 * LARGEST + 1)
    np.testing.assert_allclose(streamed.encode_images(pixels), plain.encode_images(pixels), atol=1e-5)
    assert shapes
    assert set(shapes) == {LARGEST}
    count = len(shapes)
    streamed.encode_images(pixels)
    streamed.encode_dense(pixels)
    assert len(shapes) == count


def test_compiling_can_be_asked_for_in_the_environment(monkeypatch):
    asked = []
    monkeypatch.setattr(TorchEngine, "compile_image_tower", lambda engine: asked.extend([engine]))
    engines("vit")
    assert not asked
    monkeypatch.setenv(module.COMPILE, "1")
    assert asked == list(engines("vit"))


@pytest.mark.parametrize(
    ("cuda", "why"),
    [
        (None, r"; this torch \(.*\) is built without CUDA, install one that has it \(pytorch.org\)$"),
        ("13.0", r"; torch .* has CUDA, but no GPU or no driver for it answers \(see nvidia-smi\)$"),
    ],
)
def test_why_there_is_no_gpu(monkeypatch, cuda, why):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(EngineError, match="device: torch finds cpu.* on this machine, not 'cuda:0'" + why):
        torch_device("cuda:0")


def test_a_gpu_that_is_not_the_first(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert torch_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(EngineError, match=r"torch finds cpu, cuda, cuda:0, cuda:1.* on this machine, not 'cuda:2'$"):
        torch_device("cuda:2")
