"""What the documents of OpenAI's clip, open_clip and sentence-transformers show, with the import alone changed.

They run on a toy and on the model that ships; those libraries' numbers are in test_scripts.py. Names of models, files
and data sets are the test's.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import toy

import tandem
from tandem.compat import NotCoveredError, clip, loading, open_clip, sentence_transformers, transformers
from tandem.compat.transformers import image_utils
from tandem.config import ResNet
from tandem.errors import ImageError

pytest.importorskip("torch")

LABELS = ["a diagram", "a dog", "a cat"]

CLIP = """
import torch
from tandem.compat import clip
device = "cuda" if torch.cuda.is_available() else "cpu"
model, preprocess = clip.load(name, device=device)
image = preprocess(photo).unsqueeze(0).to(device)
text = clip.tokenize(labels).to(device)
with torch.no_grad():
    image_features = model.encode_image(image)
    text_features = model.encode_text(text)
    logits_per_image, logits_per_text = model(image, text)
    probs = logits_per_image.softmax(dim=-1).cpu().numpy()
"""
TOP_LABELS = """
import torch
from tandem.compat import clip
model, preprocess = clip.load(name, "cpu")
text_inputs = torch.cat([clip.tokenize(f"a photo of {each}") for each in labels]).to("cpu")
with torch.no_grad():
    image_features = model.encode_image(preprocess(photo).unsqueeze(0))
    text_features = model.encode_text(text_inputs)
image_features /= image_features.norm(dim=-1, keepdim=True)
text_features /= text_features.norm(dim=-1, keepdim=True)
probs = (100.0 * image_features @ text_features.T).softmax(dim=-1)
values, indices = probs[0].topk(2)
printed = [f"{labels[index]:>16s}: {100 * value.item():.2f}%" for value, index in zip(values, indices)]
"""
FEATURES_OF_A_DATA_SET = """
import numpy as np
import torch
from torch.utils.data import DataLoader
from tandem.compat import clip
model, preprocess = clip.load(name, "cpu")
data = [(preprocess(photo), 0), (preprocess(photo.rotate(90)), 1), (preprocess(photo), 0)]
features, numbers = [], []
with torch.no_grad():
    for images, classes in DataLoader(data, batch_size=2):
        features.append(model.encode_image(images.to("cpu")))
        numbers.append(classes)
features, numbers = torch.cat(features).cpu().numpy(), torch.cat(numbers).cpu().numpy()
"""
NOTEBOOK = """
import numpy as np
import torch
from tandem.compat import clip
model, preprocess = clip.load(name)
model.eval()
count = np.sum([int(np.prod(each.shape)) for each in model.parameters()])
sizes = model.visual.input_resolution, model.context_length, model.vocab_size
image_input = torch.tensor(np.stack([preprocess(photo), preprocess(photo.rotate(90))]))
text_tokens = clip.tokenize(["This is " + each for each in labels])
with torch.no_grad():
    image_features = model.encode_image(image_input).float()
    text_features = model.encode_text(text_tokens).float()
image_features /= image_features.norm(dim=-1, keepdim=True)
text_features /= text_features.norm(dim=-1, keepdim=True)
similarity = text_features.cpu().numpy() @ image_features.cpu().numpy().T
top_probs, top_labels = (100.0 * image_features @ text_features.T).softmax(dim=-1).cpu().topk(2, dim=-1)
"""
OPEN_CLIP = """
import torch
from tandem.compat import open_clip
model, _, preprocess = open_clip.create_model_and_transforms(name)
model.eval()
tokenizer = open_clip.get_tokenizer(name)
image, text = preprocess(photo).unsqueeze(0), tokenizer(labels)
with torch.no_grad(), torch.autocast("cpu", enabled=False):
    image_features = model.encode_image(image)
    text_features = model.encode_text(text)
    image_features /= image_features.norm(dim=-1, keepdim=True)
    text_features /= text_features.norm(dim=-1, keepdim=True)
    probs = (100.0 * image_features @ text_features.T).softmax(dim=-1)
"""
OPEN_CLIP_OF_A_HUB = """
import torch
import torch.nn.functional as F
from tandem.compat.open_clip import create_model_from_pretrained, get_tokenizer
model, preprocess = create_model_from_pretrained(name)
tokenizer = get_tokenizer(name)
image, text = preprocess(photo).unsqueeze(0), tokenizer(labels, context_length=model.context_length)
with torch.no_grad():
    image_features = F.normalize(model.encode_image(image), dim=-1)
    text_features = F.normalize(model.encode_text(text), dim=-1)
    probs = torch.softmax(image_features @ text_features.T * model.logit_scale.exp(), dim=-1)
ranked = list(zip(labels, [round(each.item(), 3) for each in probs[0]]))
"""
OPEN_CLIP_NOTEBOOK = """
import numpy as np
from tandem.compat import open_clip
from tandem.compat.open_clip import tokenizer
model, _, preprocess = open_clip.create_model_and_transforms(name)
count = np.sum([int(np.prod(each.shape)) for each in model.parameters()])
tokens = tokenizer.tokenize("Hello World!")
"""
SENTENCES = """
from tandem.compat.sentence_transformers import SentenceTransformer, util
model = SentenceTransformer(name)
img_emb = model.encode(photo)
text_emb = model.encode(labels)
cos_scores = util.cos_sim(img_emb, text_emb)
images = model.encode([photo, photo.rotate(90), photo], batch_size=128, convert_to_tensor=True, show_progress_bar=False)
query = model.encode([labels[0]], convert_to_tensor=True, show_progress_bar=False)
hits = util.semantic_search(query, images, top_k=2)[0]
duplicates = util.paraphrase_mining_embeddings(images)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toy.folder(tmp_path_factory.mktemp("toy") / "model"))


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return toy.random_image(3, (61, 40))


@pytest.fixture
def ran(folder: str, photo: Image.Image) -> Callable[..., dict[str, Any]]:
    def run(script: str, name: str = folder) -> dict[str, Any]:
        scope = {"name": name, "photo": photo, "labels": LABELS}
        exec(script, scope)
        return scope

    return run


Ran = Callable[..., dict[str, Any]]


def probabilities(folder: str, photo: Image.Image, texts: list[str], scale: float | None = None) -> Any:
    """What Tandem's own interface says."""
    model = tandem.load(folder)
    logits = model.embed_images(photo) @ model.embed_texts(texts).T * (scale or model.logit_scale)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def close(one: Any, other: Any) -> None:
    np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=1e-4)


def test_clips_readme(ran: Ran, folder: str, photo: Image.Image) -> None:
    found = ran(CLIP)
    close(found["probs"], probabilities(folder, photo, LABELS))
    assert found["image_features"].shape == (1, 12)
    found = ran(TOP_LABELS)
    expected = probabilities(folder, photo, [f"a photo of {each}" for each in LABELS], 100)
    close(found["probs"], expected)
    best = np.argsort(-expected[0])[:2]
    assert found["printed"] == [f"{LABELS[i]:>16s}: {100 * expected[0, i]:.2f}%" for i in best]


def test_clips_features_of_a_data_set(ran: Ran) -> None:
    found = ran(FEATURES_OF_A_DATA_SET)
    assert type(found["features"]) is np.ndarray
    assert found["features"].shape == (3, 12)
    close(found["features"][0], found["features"][2])
    assert not np.allclose(found["features"][0], found["features"][1])
    assert found["numbers"].tolist() == [0, 1, 0]


def test_clips_notebook(ran: Ran, folder: str) -> None:
    found = ran(NOTEBOOK)
    weights = tandem.load(folder).tensors
    assert found["count"] == sum(each.size for each in weights.values())
    assert found["sizes"] == (32, 77, tandem.load(folder).config.text.vocabulary_size)
    assert found["similarity"].shape == (3, 2)
    assert found["top_labels"].shape == (2, 2)


def test_open_clips_readme(ran: Ran, folder: str, photo: Image.Image) -> None:
    for name in (folder, f"local-dir:{folder}"):
        close(ran(OPEN_CLIP, name)["probs"], probabilities(folder, photo, LABELS, 100))
    found = ran(OPEN_CLIP_OF_A_HUB)
    close(found["probs"], probabilities(folder, photo, LABELS))
    assert [label for label, _ in found["ranked"]] == LABELS


def test_open_clips_notebook(ran: Ran, folder: str) -> None:
    found = ran(OPEN_CLIP_NOTEBOOK)
    assert found["count"] == open_clip.create_model(folder).num_parameters()
    assert found["tokens"].tolist() == clip.tokenize("Hello World!").tolist()


def test_sentence_transformers_image_search(ran: Ran, folder: str, photo: Image.Image) -> None:
    found = ran(SENTENCES)
    model = tandem.load(folder)
    close(found["cos_scores"], model.embed_images(photo) @ model.embed_texts(LABELS).T)
    assert {hit["corpus_id"] for hit in found["hits"]} < {0, 1, 2}
    score, i, j = found["duplicates"][0]
    assert (i, j) == (0, 2)
    assert score == pytest.approx(1, abs=1e-5)


def test_pairs_of_vectors_are_those_of_sentence_transformers() -> None:
    """Each once, by their cosine; of each vector its nearest alone."""
    vectors = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    util = sentence_transformers.util
    every = util.paraphrase_mining_embeddings(vectors)
    rows, columns = np.triu_indices(7, 1)
    expected = sorted(zip(cosines[rows, columns].tolist(), rows.tolist(), columns.tolist(), strict=True), reverse=True)
    assert [(i, j) for _, i, j in every] == [(i, j) for _, i, j in expected]
    close([score for score, *_ in every], [score for score, *_ in expected])
    np.fill_diagonal(cosines, -np.inf)
    nearest = {tuple(sorted((i, int(cosines[i].argmax())))) for i in range(7)}
    assert {(i, j) for _, i, j in util.paraphrase_mining_embeddings(vectors, top_k=1)} == nearest
    assert util.paraphrase_mining_embeddings(vectors, max_pairs=2) == every[:2]


def test_what_the_examples_use_beside_is_refused_with_what_to_use() -> None:
    util = sentence_transformers.util
    for module, name, says in (
        (transformers, "BitsAndBytesConfig", "bfloat16"),
        (transformers, "CLIPFeatureExtractor", "CLIPImageProcessor"),
        (transformers, "set_seed", "random"),
        (transformers, "SiglipForImageClassification", "tandem learn"),
        (image_utils, "ChannelDimension", "load_image"),
        (open_clip, "get_model_config", "ModelConfig"),
        (open_clip, "build_zero_shot_classifier", "class_vectors"),
        (util, "community_detection", "tandem explore"),
        (util, "http_get", "urlretrieve"),
        (util, "paraphrase_mining", "paraphrase_mining_embeddings"),
    ):
        with pytest.raises(NotCoveredError, match=says):
            getattr(module, name)
    with pytest.raises(NotCoveredError, match="get_tokenizer"):
        _ = open_clip.tokenizer._tokenizer
    with pytest.raises(NotCoveredError, match=r"data: URL.*decoded bytes"):
        image_utils.load_image("data:image/png;base64,AAAA")
    with pytest.raises(NotCoveredError, match=r"load_image\(ndarray\)"):
        image_utils.load_image(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ImageError):
        image_utils.load_image("nowhere.png")


# --- of a model for whose towers transformers has no class: the one that ships, a ResNet ---------------------------


@pytest.fixture(scope="module")
def mini() -> Any:
    return transformers.AutoModel.from_pretrained("tandem-mini")


def test_a_resnets_states_are_those_of_its_stages(mini: Any, photo: Image.Image) -> None:
    inputs = transformers.AutoProcessor.from_pretrained("tandem-mini")(images=photo, return_tensors="np")
    features = mini.get_image_features(**inputs)
    vision = tandem.load().config.vision
    assert isinstance(vision, ResNet)
    assert features.last_hidden_state.shape == (1, vision.grid**2, vision.pool_width)
    close(features.last_hidden_state, features.hidden_states[-1])
    assert len(features.hidden_states) == vision.state_layers + 1
    expected = tandem.load().image_states(photo, layer=-1).states
    np.testing.assert_allclose(features.last_hidden_state, expected, atol=1e-3)
    outputs = mini.vision_model(**inputs)
    close(outputs.last_hidden_state, features.last_hidden_state)
    with pytest.raises(NotCoveredError, match=r"without a class token.*CLIPVisionModelWithProjection"):
        _ = outputs.pooler_output


def test_its_configuration_has_the_sizes_that_scripts_ask_for(mini: Any) -> None:
    config, ours = mini.config, tandem.load().config
    assert (config.projection_dim, config.vision_config.image_size) == (ours.embed_dim, ours.vision.image_size)
    text, own = config.text_config, ours.text
    assert (text.hidden_size, text.num_hidden_layers, text.num_attention_heads) == (own.width, own.layers, own.heads)
    assert text.max_position_embeddings == own.context_length
    assert (text.vocab_size, text.eos_token_id) == (own.vocabulary_size, own.end_id)
    assert config.vision.width == ours.vision.width  # beside them, Tandem's own description


def test_its_weights_are_counted_without_the_statistics_of_its_norms(mini: Any) -> None:
    from tandem.nn import CLIP as Towers

    torch_count = sum(each.numel() for each in Towers(tandem.load().config).parameters())
    assert mini.num_parameters() == sum(each.numel() for each in mini.parameters()) == torch_count
    assert mini.num_parameters() < sum(each.size for each in tandem.load().tensors.values())


def test_a_model_keeps_its_precision_when_it_moves(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    model = open_clip.create_model(folder)
    built = model._model
    assert model.to("cpu").to(dtype="float32").float().cpu()._model is built  # nothing to do: nothing is built
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(loading, "on_device", lambda _, *where: asked.append(where) or built)
    model.cuda()
    model.to("cuda:1").bfloat16()
    assert asked == [("cuda", "float32"), ("cuda:1", "float32"), ("cpu", "bfloat16")]
