"""The examples of transformers and sentence-transformers through both sides: the same inputs, the same numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import toy

from tandem.compat import transformers as ours
from tandem.compat.refusals import NotCoveredError
from tandem.tokenizer import Tokenizer

pytestmark = pytest.mark.slow

TEXTS = ["a photo of a cat", "a photo of a dog", "two dogs, running on the beach!"]
SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def theirs() -> Any:
    return pytest.importorskip("transformers")


def random_weights(model: Any) -> Any:
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def clip(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that transformers saved: CLIP with the vocabulary of the published models and tiny towers."""
    tokens = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    config = theirs.CLIPConfig(
        text_config={**SIZES, **tokens, "projection_dim": 24},
        vision_config={**SIZES, "image_size": 32, "patch_size": 8, "projection_dim": 24},
        projection_dim=24,
    )
    folder = tmp_path_factory.mktemp("clip")
    random_weights(theirs.CLIPModel(config)).save_pretrained(folder)
    Tokenizer.clip().save(folder)
    words = theirs.CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    images = theirs.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)
    theirs.CLIPProcessor(image_processor=images, tokenizer=words).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def siglip(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that transformers saved: SigLIP with a small SentencePiece vocabulary and tiny towers."""
    spm = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("siglip")
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 9), model_prefix=str(folder / "spiece"), vocab_size=60, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    words = theirs.SiglipTokenizer(str(folder / "spiece.model"), model_input_names=["input_ids"])
    config = theirs.SiglipConfig(
        text_config={**SIZES, "vocab_size": len(words), "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 1},
        vision_config={**SIZES, "image_size": 32, "patch_size": 8},
    )
    random_weights(theirs.SiglipModel(config)).save_pretrained(folder)
    images = theirs.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    theirs.SiglipProcessor(image_processor=images, tokenizer=words).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return toy.random_image(3, (61, 40))


def same(one: Any, other: Any, atol: float = 1e-4) -> None:
    np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=atol)


def test_the_ten_lines(theirs: Any, clip: Path, photo: Image.Image) -> None:
    import torch

    answers = []
    for library in (theirs, ours):
        model = library.CLIPModel.from_pretrained(clip).eval()
        processor = library.CLIPProcessor.from_pretrained(clip)
        inputs = processor(text=TEXTS, images=photo, return_tensors="pt", padding=True)
        with torch.no_grad():
            outputs = model(**inputs.to("cpu"))
        answers.append((inputs, outputs, outputs.logits_per_image.softmax(dim=1)))
    (theirs_in, theirs_out, theirs_probs), (ours_in, ours_out, ours_probs) = answers
    assert set(ours_in) == set(theirs_in)
    for name in ("input_ids", "attention_mask"):
        assert (ours_in[name].dtype, ours_in[name].tolist()) == (theirs_in[name].dtype, theirs_in[name].tolist())
    same(ours_in.pixel_values, theirs_in.pixel_values, 1e-6)
    assert [key for key in ours_out if "output" not in key] == [key for key in theirs_out if "output" not in key]
    for name in ("logits_per_image", "logits_per_text", "image_embeds", "text_embeds"):
        same(ours_out[name], theirs_out[name])
        assert isinstance(ours_out[name], torch.Tensor)
    same(ours_out[0], theirs_out[0])
    same(ours_probs, theirs_probs)
    same(ours_out.vision_model_output.pooler_output, theirs_out.vision_model_output.pooler_output)
    same(ours_out.vision_model_output.last_hidden_state, theirs_out.vision_model_output.last_hidden_state)
    assert abs(ours_probs - ours_probs.mean()).max() > 0.01  # the comparison could fail


def test_siglips_example(theirs: Any, siglip: Path, photo: Image.Image) -> None:
    import torch

    answers = []
    for library in (theirs, ours):
        model, processor = (getattr(library, name).from_pretrained(siglip) for name in ("AutoModel", "AutoProcessor"))
        inputs = processor(text=TEXTS, images=[photo, photo.rotate(90)], padding="max_length", return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs)
        answers.append((inputs, outputs, torch.sigmoid(outputs.logits_per_image), model))
    (theirs_in, theirs_out, theirs_probs, reference), (ours_in, ours_out, ours_probs, model) = answers
    assert set(ours_in) == set(theirs_in) == {"input_ids", "pixel_values"}
    assert ours_in.input_ids.tolist() == theirs_in.input_ids.tolist()
    same(ours_in.pixel_values, theirs_in.pixel_values, 1e-6)
    same(ours_out.logits_per_image, theirs_out.logits_per_image)
    same(ours_probs, theirs_probs)
    assert type(model) is ours.SiglipModel
    assert model.config.model_type == "siglip"
    for scalar in ("logit_scale", "logit_bias"):
        same(getattr(model, scalar), getattr(reference, scalar).detach()[0], 1e-6)
    inputs = ours.SiglipProcessor.from_pretrained(siglip)(images=photo, return_tensors="pt")
    with torch.no_grad():
        expected = reference.get_image_features(**inputs)
    found = model.get_image_features(**inputs)
    same(found, expected.pooler_output)
    same(found.last_hidden_state, expected.last_hidden_state)
    with pytest.warns(UserWarning, match="padded to 64"):
        short = model.get_text_features(**ours.SiglipProcessor.from_pretrained(siglip)(text=TEXTS, padding=True))
    same(short, model.get_text_features(input_ids=ours_in.input_ids))
    with pytest.raises(NotCoveredError, match="attention_mask"):
        model.get_text_features(input_ids=[[5, 6, 1, 1]], attention_mask=[[1, 1, 1, 0]])


def test_features_in_both_shapes(theirs: Any, clip: Path, photo: Image.Image) -> None:
    """A tensor, as version 4 gave it, and the attributes of version 5's output."""
    import torch

    reference, model = theirs.CLIPModel.from_pretrained(clip).eval(), ours.CLIPModel.from_pretrained(clip)
    processor = ours.CLIPProcessor.from_pretrained(clip)
    inputs = processor(images=[photo] * 2, return_tensors="pt")
    with torch.no_grad():
        expected = reference.get_image_features(**inputs, output_hidden_states=True)
    found = model.get_image_features(**inputs, output_hidden_states=True)
    same(found, expected.pooler_output)
    same(found.pooler_output, expected.pooler_output)
    assert isinstance(found, torch.Tensor)
    assert type(found / found.norm(dim=-1, keepdim=True)) is torch.Tensor
    same(found.last_hidden_state, expected.last_hidden_state)
    assert len(found.hidden_states) == len(expected.hidden_states)
    for one, other in zip(found.hidden_states, expected.hidden_states, strict=True):
        same(one, other)
    words = processor(text=TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        expected = reference.get_text_features(**words, output_hidden_states=True)
    found = model.get_text_features(**words)
    same(found, expected.pooler_output)
    same(found["last_hidden_state"], expected.last_hidden_state)
    same(found.hidden_states[-2], expected.hidden_states[-2])


# What the documents of transformers show of single classes: each runs on both sides, and `found` is compared.
EXAMPLES = {
    "a text tower": """
from {library} import AutoTokenizer, CLIPTextModel
model, tokenizer = CLIPTextModel.from_pretrained(clip), AutoTokenizer.from_pretrained(clip)
outputs = model(**tokenizer(["a photo of a cat", "a photo of a dog"], padding=True, return_tensors="pt"))
found = [outputs.last_hidden_state, outputs.pooler_output]
""",
    "an image tower": """
from {library} import AutoProcessor, CLIPVisionModel
model, processor = CLIPVisionModel.from_pretrained(clip), AutoProcessor.from_pretrained(clip)
outputs = model(**processor(images=photo, return_tensors="pt"))
found = [outputs.last_hidden_state, outputs.pooler_output]
""",
    "a text tower with its projection": """
from {library} import AutoTokenizer, CLIPTextModelWithProjection
model, tokenizer = CLIPTextModelWithProjection.from_pretrained(clip), AutoTokenizer.from_pretrained(clip)
with torch.inference_mode():
    outputs = model(**tokenizer(["a photo of a cat", "a photo of a dog"], padding=True, return_tensors="pt"))
found = [outputs.text_embeds, outputs.last_hidden_state]
""",
    "an image tower with its projection": """
from {library} import AutoProcessor, CLIPVisionModelWithProjection
from {library}.image_utils import load_image
model, processor = CLIPVisionModelWithProjection.from_pretrained(clip), AutoProcessor.from_pretrained(clip)
with torch.inference_mode():
    outputs = model(**processor(images=load_image(file), return_tensors="pt"))
found = [outputs.image_embeds, outputs.last_hidden_state]
""",
    "features of a file": """
from {library} import AutoProcessor, CLIPModel
from {library}.image_utils import load_image, load_images
model, processor = CLIPModel.from_pretrained(clip), AutoProcessor.from_pretrained(clip)
image = load_image(file)
assert (image.mode, [each.size for each in load_images([file, file])]) == ("RGB", [image.size] * 2)
with torch.inference_mode():
    found = [model.get_image_features(**processor(images=image, return_tensors="pt")).pooler_output]
""",
    "the most likely label": """
from {library} import AutoModel, AutoProcessor
model = AutoModel.from_pretrained(clip, attn_implementation="sdpa")
processor = AutoProcessor.from_pretrained(clip)
labels = ["a photo of a cat", "a photo of a dog", "a photo of a car"]
inputs = processor(text=labels, images=photo, return_tensors="pt", padding=True).to(model.device)
probs = model(**inputs).logits_per_image.softmax(dim=1)
place = probs.argmax(dim=1).item()
found = [place, len(labels[place]), probs[0][place].item()]
""",
    "towers of a whole model": """
from {library} import CLIPModel, CLIPProcessor
model, processor = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
inputs = processor(text=["a cat"], images=photo, return_tensors="pt")
with torch.no_grad():
    image = model.vision_model(pixel_values=inputs.pixel_values)
    text = model.text_model(input_ids=inputs.input_ids)
found = [image[0], image[1], text.last_hidden_state, text[1]]
""",
    "sizes": """
from {library} import CLIPModel
model = CLIPModel.from_pretrained(clip)
config = model.config
found = [model.num_parameters(), sum(each.numel() for each in model.parameters()), config.projection_dim,
         config.vision_config.image_size, config.text_config.hidden_size, config.text_config.max_position_embeddings]
assert next(model.parameters()).device == model.device
""",
    "SigLIP's towers": """
from {library} import AutoProcessor, AutoTokenizer, SiglipTextModel, SiglipVisionModel
text, image = SiglipTextModel.from_pretrained(siglip), SiglipVisionModel.from_pretrained(siglip)
words = AutoTokenizer.from_pretrained(siglip)(["a cat", "two dogs"], padding="max_length", return_tensors="pt")
pixels = AutoProcessor.from_pretrained(siglip)(images=photo, return_tensors="pt")
with torch.no_grad():
    outputs = text(**words), image(**pixels)
found = [each[name] for each in outputs for name in ("last_hidden_state", "pooler_output")]
""",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_documented_examples(
    theirs: Any, clip: Path, siglip: Path, photo: Image.Image, tmp_path: Path, name: str
) -> None:
    import torch

    photo.save(tmp_path / "photo.png")
    given = {"clip": clip, "siglip": siglip, "photo": photo, "file": str(tmp_path / "photo.png"), "torch": torch}
    answers = []
    for library in ("transformers", "tandem.compat.transformers"):
        scope = dict(given)
        exec(EXAMPLES[name].format(library=library), scope)
        answers.append([torch.as_tensor(each).detach() for each in scope["found"]])
    assert len(answers[0]) == len(answers[1]) > 0
    for expected, found in zip(*answers, strict=True):
        assert found.shape == expected.shape
        same(found, expected)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_pipeline(theirs: Any, request: pytest.FixtureRequest, kind: str, photo: Image.Image) -> None:
    folder = str(request.getfixturevalue(kind))
    labels = ["cat", "dog", "beach"]
    expected, found = (
        library.pipeline("zero-shot-image-classification", model=folder)([photo, photo], candidate_labels=labels)
        for library in (theirs, ours)
    )
    assert [[row["label"] for row in rows] for rows in found] == [[row["label"] for row in rows] for rows in expected]
    same([row["score"] for row in found[0]], [row["score"] for row in expected[0]])


def test_every_string_has_transformers_ids(theirs: Any, clip: Path, shared: Path) -> None:
    """Its tokenizer knows neither ftfy nor HTML: for about one in thirty of these strings that makes other ids."""
    texts = [row["text"] for row in json.loads((shared / "golden" / "tokens.json").read_text())]
    reference, tokenizer = (library.AutoTokenizer.from_pretrained(clip) for library in (theirs, ours))
    expected = reference(texts, truncation=True, padding="max_length")
    found = tokenizer(texts, truncation=True, padding="max_length")
    wrong = [
        text for text, one, other in zip(texts, found.input_ids, expected["input_ids"], strict=True) if one != other
    ]
    assert wrong == []
    assert found["attention_mask"] == expected["attention_mask"]
    assert Tokenizer.clip().encode(texts) != tokenizer._tokenizer.encode(texts)


def test_every_kind_of_image_has_transformers_pixels(theirs: Any, clip: Path, siglip: Path) -> None:
    scene = toy.random_image(5, (77, 50))
    cut = scene.convert("RGBA")
    cut.putalpha(toy.random_image(6, (77, 50)).convert("L"))
    palette = scene.convert("P")
    palette.info["transparency"] = 3
    images = [
        scene, scene.resize((33, 64)), scene.resize((32, 32)), scene.resize((9, 7)), scene.convert("L"), cut,
        scene.convert("P"), palette, scene.convert("LA"), scene.convert("1"), scene.convert("CMYK"),
        np.array(scene), np.array(scene).transpose(2, 0, 1), np.array(cut),
        *(scene.resize((32 + extra, 32)) for extra in range(1, 12)),
    ]  # fmt: skip
    for folder in (clip, siglip):
        reference = theirs.AutoProcessor.from_pretrained(folder).image_processor
        processor = ours.AutoImageProcessor.from_pretrained(folder)
        for number, image in enumerate(images):
            expected = reference(images=image, return_tensors="np")["pixel_values"]
            found = processor(images=image, return_tensors="np").pixel_values
            np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=f"image {number}")


def test_sentence_transformers_example(clip: Path, tmp_path: Path, photo: Image.Image) -> None:
    """Of a folder that it saved itself: images and texts in one space, and their cosines."""
    library = pytest.importorskip("sentence_transformers")
    from tandem.compat import sentence_transformers as compat

    library.SentenceTransformer(str(clip), device="cpu").save(str(tmp_path))
    images = [photo, photo.rotate(90), photo.convert("L")]
    answers = []
    for each in (library, compat):
        model = each.SentenceTransformer(str(tmp_path), device="cpu")
        vectors = model.encode(images, batch_size=2), model.encode([*TEXTS, "dog " * 99], convert_to_tensor=True)
        cosines = each.util.cos_sim(*vectors)
        unit = model.encode(TEXTS[0], normalize_embeddings=True)
        answers.append((*vectors, cosines, model.similarity(*vectors), unit))
    for expected, found in zip(*answers, strict=True):
        assert type(found) is type(expected)
        same(found, expected)
