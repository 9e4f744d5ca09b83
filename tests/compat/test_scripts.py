"""The scripts that people have, on a toy and on golden outputs of the originals; no other library is asked."""

import functools
import hashlib
import http.server
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import toy
from support.engine_toys import golden

import tandem
from tandem import engine as engines
from tandem.compat import NotCoveredError, clip, open_clip, sentence_transformers, tensors, transformers
from tandem.compat.arrays import Array
from tandem.config import CLIP_MEAN, CLIP_STD, PUBLISHED
from tandem.errors import TextError
from tandem.model import Model
from tandem.weights import Checkpoint, write

TEXTS = ["a cat", "a dog & a cat", "do"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.folder(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return tandem.load(folder)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return toy.random_image(3, (61, 40))


@pytest.fixture(autouse=True)
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a script that has not imported torch: other tests of this process may have."""
    monkeypatch.setattr(tensors, "uses_torch", lambda: False)


def close(one: Any, other: Any, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=atol)


def test_transformers_ten_lines(folder: Path, model: Model, photo: Image.Image) -> None:
    processor = transformers.CLIPProcessor.from_pretrained(folder)
    inputs = processor(text=TEXTS, images=[photo, photo], return_tensors="pt", padding=True)
    outputs = transformers.CLIPModel.from_pretrained(str(folder)).eval().to("cpu")(**inputs)
    probabilities = outputs.logits_per_image.softmax(dim=1)
    assert type(probabilities) is Array
    assert probabilities.shape == (2, 3)
    close(outputs.logits_per_image, model.logits(model.embed_images([photo] * 2), model.embed_texts(TEXTS)), 1e-3)
    close(outputs.logits_per_text, outputs.logits_per_image.T)
    assert list(outputs)[:4] == ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"]
    close(outputs[0], outputs["logits_per_image"])
    assert inputs.input_ids.dtype == np.int64
    assert set(inputs) == {"input_ids", "attention_mask", "pixel_values"}


def test_what_a_processor_returns(folder: Path, photo: Image.Image, tmp_path: Path) -> None:
    processor = transformers.AutoProcessor.from_pretrained(folder)
    lists = processor(text=TEXTS)
    assert [len(row) for row in lists["input_ids"]] == [len(row) for row in lists["attention_mask"]]
    assert isinstance(processor(text="a cat").input_ids[0], int)
    numpy = processor(text=TEXTS, padding="max_length", return_tensors="np")
    assert type(numpy.input_ids) is np.ndarray
    assert numpy.input_ids.shape == (3, 77)
    assert (
        processor(text=["cat " * 99], truncation=True, max_length=9).input_ids[0][-1]
        == processor.tokenizer.eos_token_id
    )
    file = tmp_path / "photo.png"
    photo.save(file)
    one = processor(photo, return_tensors="np").pixel_values
    for images in (str(file), np.array(photo), np.array(photo).transpose(2, 0, 1)):
        close(processor(images=images, return_tensors="np").pixel_values, one)
    assert set(processor(photo, TEXTS[:1], return_tensors="np")) == {"input_ids", "attention_mask", "pixel_values"}
    for wrong, says in (
        (lambda: processor(text=["cat " * 99], return_tensors="pt"), "truncation=True"),
        (lambda: processor(text=TEXTS, return_tensors="pt"), "padding=True"),
    ):
        with pytest.raises(TextError, match=says):
            wrong()
    for wrong in (
        processor,
        lambda: processor(images=[]),
        lambda: processor(text=TEXTS, return_tensors="tf"),
        lambda: processor(images=np.zeros((4, 4, 3), np.float32)),
        lambda: processor(images=photo, do_resize=False),
        lambda: processor(text=TEXTS, stride=3),
        lambda: processor.save_pretrained("here"),
    ):
        with pytest.raises(NotCoveredError):
            wrong()


def test_features_and_states(folder: Path, model: Model, photo: Image.Image) -> None:
    towers = transformers.AutoModel.from_pretrained(folder)
    inputs = transformers.CLIPProcessor.from_pretrained(folder)(text=TEXTS[:1], images=photo, return_tensors="np")
    features = towers.get_image_features(pixel_values=inputs.pixel_values)
    close(features / features.norm(dim=-1, keepdim=True), model.embed_images(photo), 1e-4)
    assert features.pooler_output.shape == features.shape
    close(features.hidden_states[-2], model.image_states(photo, layer=-2).states, 1e-3)
    ids = np.pad(inputs.input_ids, ((0, 0), (0, 3)), constant_values=towers.config.text_config.eos_token_id)
    masked = towers.get_text_features(ids, attention_mask=np.arange(ids.shape[1])[None] < inputs.input_ids.shape[1])
    close(masked, towers.get_text_features(inputs.input_ids))
    with pytest.raises(NotCoveredError, match="leave the mask out"):
        masked["last_hidden_state"]
    close(towers.get_text_features(inputs.input_ids).last_hidden_state[0, 1], model.text_states(TEXTS[0])[0, 1], 1e-4)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda model, batch: model.train(), "tandem train"),
        (lambda model, batch: model.named_parameters(), "gradients do not pass"),
        (lambda model, batch: model(**batch, output_attentions=True), "tandem locate"),
        (lambda model, batch: model(**batch, return_loss=True), "tandem train"),
        (lambda model, batch: model(**batch).attentions, "attention weights"),
        (lambda model, batch: model(input_ids=batch["input_ids"]), "get_text_features"),
        (lambda model, batch: model.get_image_features(batch["pixel_values"][:, :, :9]), r"\[n 3 32 32\]"),
        (lambda model, batch: model.get_text_features(batch["input_ids"], batch["input_ids"] * 0), "attention_mask"),
        (lambda model, batch: model.save_pretrained("x"), "tandem convert"),
        (lambda model, batch: transformers.CLIPModel.from_pretrained(None, cache_dir="x"), "HF_HOME"),
        (lambda model, batch: transformers.pipeline("fill-mask"), "zero-shot-image-classification"),
    ],
)
def test_what_models_do_not_cover(folder: Path, photo: Image.Image, call: Any, says: str) -> None:
    model = transformers.CLIPModel.from_pretrained(folder)
    batch = transformers.CLIPProcessor.from_pretrained(folder)(text=TEXTS[:1], images=photo, return_tensors="np")
    with pytest.raises(NotCoveredError, match=says):
        call(model, batch)


def test_names_that_are_not_covered_say_what_to_use() -> None:
    for module, name, says in (
        (transformers, "CLIPSegForImageSegmentation", "tandem locate"),
        (transformers, "BertModel", "CLIPModel"),
        (open_clip, "ClipLoss", "tandem train"),
        (clip, "model", "tandem.nn"),
        (sentence_transformers, "CrossEncoder", "pairs of texts"),
    ):
        with pytest.raises(ImportError, match=says) as error:  # as `from module import name` raises it
            getattr(module, name)
        assert isinstance(error.value, NotCoveredError)
        assert not hasattr(module, "__no_such_thing__")


def test_the_pipeline(folder: Path, model: Model, photo: Image.Image) -> None:
    classifier = transformers.pipeline(task="zero-shot-image-classification", model=str(folder), device="cpu")
    found = classifier([photo], candidate_labels=TEXTS, hypothesis_template="a photo of a {}.")
    expected = model.classify(photo, TEXTS).probabilities[0]
    assert [row["label"] for row in found[0]] == [TEXTS[place] for place in np.argsort(-expected)]
    close([row["score"] for row in found[0]], np.sort(expected)[::-1], 1e-4)
    again = classifier(photo, candidate_labels=",".join(TEXTS), hypothesis_template="a photo of a {}.")
    assert [row["label"] for row in again] == [row["label"] for row in found[0]]


def test_images_from_the_web(folder: Path, photo: Image.Image, tmp_path: Path) -> None:
    """As scripts fetch them, with requests, and as an address in the place of an image."""
    requests = pytest.importorskip("requests")
    photo.save(tmp_path / "photo.png")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/photo.png"
        processor = transformers.CLIPProcessor.from_pretrained(folder)
        expected = processor(images=photo, return_tensors="pt").pixel_values
        close(
            processor(images=Image.open(requests.get(url, stream=True).raw), return_tensors="pt").pixel_values, expected
        )
        close(processor(images=[url], return_tensors="pt").pixel_values, expected)
        classifier = transformers.pipeline("zero-shot-image-classification", model=folder)
        found, same = (classifier(image, candidate_labels=TEXTS) for image in (url, photo))
        close([row["score"] for row in found], [row["score"] for row in same])
        encoder = sentence_transformers.SentenceTransformer(folder)
        close(encoder.encode(url), encoder.encode(photo))
        server.shutdown()


@pytest.mark.slow
def test_openais_own_vectors(shared: Path) -> None:
    """The golden outputs of the original: features as it gives them, not of unit length, and logits."""
    for which in ("vit-tiny", "resnet-tiny"):
        config, weights, expected = golden(shared, which)
        built = Model(Checkpoint(config, weights, toy.tokenizer(), "golden"), engines.build(config, weights))
        for library in (clip, open_clip):
            model = library.CLIP(built)
            close(model.encode_image(expected["pixels"]), expected["image_features"], 1e-4)
        close(model.encode_text(expected["token_ids"]), expected["text_features"], 1e-4)
        close(model.get_logits(expected["pixels"], expected["token_ids"])[0], expected["logits_per_image"], 1e-4)
        images, texts, scale = model(expected["pixels"], expected["token_ids"])
        close(scale * images @ texts.T, expected["logits_per_image"], 1e-4)
        close(model.encode_image(expected["pixels"], normalize=True).norm(dim=-1), np.ones(3))


def test_openais_token_ids(shared: Path) -> None:
    rows = json.loads((shared / "golden" / "tokens.json").read_text())
    fits = [row for row in rows if len(row["ids"]) <= 75]
    ids = clip.tokenize([row["text"] for row in fits])
    assert (type(ids), ids.dtype, ids.shape) == (Array, np.int32, (len(fits), 77))
    for row, found in zip(fits, ids.tolist(), strict=True):
        assert found == [49406, *row["ids"], 49407, *[0] * (75 - len(row["ids"]))]
    long = next(row["text"] for row in rows if len(row["ids"]) > 75)
    with pytest.raises(TextError, match="at most 77"):
        clip.tokenize(long)
    assert clip.tokenize(long, truncate=True)[0, -1] == open_clip.tokenize([long])[0, -1] == 49407


def test_openais_pixels(shared: Path) -> None:
    data = pytest.importorskip("skimage.data", reason="needs scikit-image's sample photos")
    expected = np.load(shared / "golden" / "preprocess.npz")["chelsea"]
    checkpoint = Checkpoint(PUBLISHED["ViT-B/32"], {}, toy.tokenizer(), "no weights")
    pixels = open_clip.Preprocess(checkpoint)(Image.fromarray(data.chelsea()))
    mean, std = (np.array(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    close(pixels, (expected.transpose(2, 0, 1) / 255 - mean) / std)
    golden_hash = json.loads((shared / "golden" / "preprocess.json").read_text())["chelsea"]
    back = np.round((np.asarray(pixels) * std + mean) * 255).astype(np.uint8).transpose(1, 2, 0)
    assert hashlib.sha256(np.ascontiguousarray(back).tobytes()).hexdigest() == golden_hash
    _, preprocess = clip.load("tandem-mini")
    size = tandem.load().config.preprocessing.image_size
    assert preprocess(toy.random_image()).shape == (3, size, size)


@pytest.mark.slow
def test_clips_script_with_another_vocabulary(photo: Image.Image) -> None:
    """The model that ships reads the words that CLIP's ids stand for."""
    model, preprocess = clip.load("tandem-mini", device="cpu")
    image, text = preprocess(photo).unsqueeze(0), clip.tokenize(TEXTS)
    logits_per_image, logits_per_text = model(image, text)
    mini = tandem.load()
    close(logits_per_image, mini.logits(mini.embed_images(photo), mini.embed_texts(TEXTS)), 1e-3)
    close(logits_per_text, logits_per_image.T)
    similarity = model.encode_image(image) @ model.encode_text(text).T
    assert similarity.softmax(dim=-1).shape == (1, 3)
    with pytest.raises(NotCoveredError, match=r"unsqueeze\(0\)"):
        model.encode_image(preprocess(photo))
    assert clip.available_models()[5] == "ViT-B/32"


def test_open_clips_script(folder: Path, model: Model, photo: Image.Image) -> None:
    name = f"local-dir:{folder}"
    ours, train, preprocess = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    ids = tokenizer(TEXTS)
    assert (ids.shape, ids.dtype) == ((3, 77), np.int64)
    close(ours.encode_text(ids, normalize=True), model.embed_texts(TEXTS))
    close(ours.encode_image(preprocess(photo).unsqueeze(0), normalize=True), model.embed_images(photo))
    assert len(ours(preprocess(photo).unsqueeze(0), ids)) == 3
    again, same = open_clip.create_model_from_pretrained(name)
    close(again.eval().to("cpu").encode_text(ids), ours.encode_text(ids))
    close(same(photo), preprocess(photo))
    assert ours.visual.image_size == (32, 32)
    by_name = open_clip.create_model(name, output_dict=True)(preprocess(photo).unsqueeze(0))
    close(by_name["image_features"], model.embed_images(photo))
    for wrong, says in (
        (lambda: train(photo), "preprocess_val"),
        (lambda: open_clip.create_model("ViT-B-32"), "laion2b_s34b_b79k"),
        (lambda: open_clip.create_model("ViT-B-32", pretrained="laion2b_s34b_b79"), "did you mean"),
        (lambda: open_clip.create_model(name, force_image_size=336), "preprocessing"),
        (lambda: open_clip.create_model(name, precision="int4"), "fp32"),
        (lambda: ours.visual.conv1, "image_states"),
    ):
        with pytest.raises(NotCoveredError, match=says):
            wrong()


def test_open_clips_names(folder: Path, tmp_path: Path) -> None:
    pairs = open_clip.list_pretrained()
    assert ("ViT-B-32", "laion2b_s34b_b79k") in pairs
    assert ("ViT-B-32", "openai") in pairs
    assert ("ViT", "B/32") not in pairs
    assert "ViT-B-32:openai" in open_clip.list_pretrained(as_str=True)
    assert {"ViT-B-32", "ViT-B-16-SigLIP"} <= set(open_clip.list_models())
    assert open_clip.get_tokenizer("ViT-B-32")(["a cat"]).tolist() == clip.tokenize("a cat").tolist()
    weights = tmp_path / "weights"
    write(toy.checkpoint(activation="gelu"), weights, "open_clip")
    for name, activation in (("ViT-B-32", "gelu"), ("ViT-B-32-quickgelu", "quick_gelu")):
        made = open_clip._source(name, str(weights))
        assert made == (str(weights), activation)


def test_sentence_transformers_script(folder: Path, model: Model, photo: Image.Image, tmp_path: Path) -> None:
    encoder = sentence_transformers.SentenceTransformer(str(folder))
    file = tmp_path / "photo.png"
    photo.save(file)
    vectors = encoder.encode([photo, "a cat", str(file)], batch_size=2, normalize_embeddings=True)
    assert type(vectors) is np.ndarray
    close(vectors[[0, 2]], np.repeat(model.embed_images(photo), 2, axis=0))
    close(vectors[1], model.embed_texts("a cat")[0])
    single = encoder.encode("a cat", convert_to_tensor=True)
    assert (type(single), single.shape) == (Array, (12,))
    assert abs(single.norm() - 1) > 1e-3  # as it comes from the tower
    util = sentence_transformers.util
    close(util.cos_sim(single, vectors)[0, 1], 1)
    close(encoder.similarity(vectors, vectors), vectors @ vectors.T)
    assert util.semantic_search(single, vectors, top_k=2)[0][0]["corpus_id"] == 1
    assert [each.shape for each in encoder.encode(TEXTS, convert_to_numpy=False)] == [(12,)] * 3
    assert encoder.encode([]).shape == (0, 12)
    assert encoder.encode(TEXTS, truncate_dim=4).shape == (3, 4)
    for wrong, says in (
        (lambda: encoder.fit, "tandem train"),
        (lambda: encoder.encode(TEXTS, precision="int8"), "int8"),
        (lambda: encoder.encode(TEXTS, prompt="query: "), "texts"),
        (lambda: sentence_transformers.SentenceTransformer("clip-ViT-B-32-multilingual-v1"), "many languages"),
    ):
        with pytest.raises(NotCoveredError, match=says):
            wrong()


def test_a_checkpoint_is_read_once_and_again_when_its_files_change(folder: Path, tmp_path: Path) -> None:
    place = toy.folder(tmp_path / "model")
    model = transformers.CLIPModel.from_pretrained(place)
    assert transformers.CLIPProcessor.from_pretrained(place)._checkpoint is model._model.checkpoint
    write(toy.checkpoint(seed=1), tmp_path / "other", "tandem")
    for file in (tmp_path / "other").iterdir():
        file.replace(place / file.name)
    assert transformers.CLIPModel.from_pretrained(place)._model.checkpoint is not model._model.checkpoint
