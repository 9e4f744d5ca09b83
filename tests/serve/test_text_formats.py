"""Models whose texts are unlike CLIP's (no start token, another end and padding, a fixed length), served."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from support import toy
from support.serving import data_uri, post_json, toy_collection

import tandem
from tandem import weights
from tandem.config import TextTransformer
from tandem.serve.app import build_app
from tandem.serve.service import open_service
from tandem.serve.settings import Settings
from tandem.tokenizer import TextFormat, Tokenizer
from tandem.tokenizer.vocabularies import wordpiece

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "black", "dog", "cat", "photo", "of", "runs", ".", ","]
CONTEXT = 12
# SigLIP 1 and 2; CLIPA; one that reads at its end token, padded with another one
FORMATS: dict[str, tuple[TextFormat, dict[str, Any]]] = {
    "siglip": (TextFormat(None, 3, 3, "canonical"), {"causal": False, "pooling": "last"}),
    "siglip2": (TextFormat(None, 3, 0, "canonical"), {"causal": False, "pooling": "last"}),
    "clipa": (TextFormat(2, None, 0, "whitespace"), {"causal": False, "pooling": "last"}),
    "metaclip2": (TextFormat(2, 3, 0, "whitespace"), {}),
}
TEXTS = ["a black dog runs.", "cat", "", "A Photo, of a cat", "dog " * 10]


@pytest.fixture(params=list(FORMATS))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    format, varied = FORMATS[request.param]
    text = TextTransformer(
        CONTEXT, len(WORDS), 16, 2, 2, 32, "gelu", format.start_id, format.end_id, format.pad_id,
        cleaning=format.cleaning, **varied,
    )  # fmt: skip
    config = toy.config(text=text)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    tokenizer = Tokenizer(wordpiece(tmp_path / "vocab.txt", {}), format)
    weights.write(weights.Checkpoint(config, toy.tensors(config), tokenizer, "toy"), tmp_path / "model", "tandem")
    return tmp_path


@pytest.fixture
def here(folder: Path) -> Iterator[TestClient]:
    service = open_service(Settings(batch_wait_s=0), [str(toy_collection(folder))])
    yield TestClient(build_app(service), base_url="http://127.0.0.1:8000")
    service.close()


@pytest.mark.slow
def test_vectors_do_not_depend_on_what_shares_the_batch(folder: Path) -> None:
    model = tandem.load(folder / "model")
    together = model.embed_texts(TEXTS)
    alone = np.concatenate([model.embed_texts(text) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    whole = model.tokenizer(TEXTS, CONTEXT, pad_to=CONTEXT)
    np.testing.assert_allclose(model.encode_token_ids(whole), together, atol=1e-6)
    torch_model = tandem.load(folder / "model", engine="torch")
    np.testing.assert_allclose(torch_model.embed_texts(TEXTS), together, atol=1e-5)
    assert dataclasses.asdict(model.tokenizer.format) == dataclasses.asdict(TextFormat.of(model.config.text))
    split = model.embed_texts([*TEXTS, "a black dog runs. " * 9], long="split")
    np.testing.assert_allclose(split[:-1], together, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(split[-1]), 1, atol=1e-5)


def test_a_server_gives_the_same_vectors(here: TestClient, folder: Path) -> None:
    model = tandem.load(folder / "model")
    texts = [text for text in TEXTS if text]
    answer = post_json(here, "/v1/embeddings", input=texts)
    np.testing.assert_allclose([row["embedding"] for row in answer["data"]], model.embed_texts(texts), atol=1e-5)
    ids = model.tokenizer.encode(texts)
    assert answer["usage"]["prompt_tokens"] == sum(len(row) + model.tokenizer.format.added for row in ids)
    with tandem.open(folder / "photos.tandem") as photos:
        mine = photos.search("a black dog", k=3)
        labelled = photos.label(["cat", "dog"], k=2)
    found = post_json(here, "/v1/search", text="a black dog", k=3)
    assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in mine]
    np.testing.assert_allclose([hit["score"] for hit in found["hits"]], [hit.score for hit in mine], atol=1e-5)
    rows = post_json(here, "/v1/label", labels=["cat", "dog"], k=2)["labels"]
    assert {row["label"]: [each["id"] for each in row["images"]] for row in rows} == {
        label: [each.id for each in row] for label, row in labelled.items()
    }
    photo = next((folder / "photos").glob("*.png"))
    served = post_json(here, "/v1/classify", image=data_uri(photo), labels=["cat", "dog"])["results"][0][
        "probabilities"
    ]
    expected = model.classify(photo, ["cat", "dog"]).probabilities[0]
    np.testing.assert_allclose(list(served.values()), expected, atol=1e-4)
    too_long = here.post("/v1/search", json={"text": "dog " * 40})
    assert too_long.status_code == 422
    assert too_long.json()["limit"] == CONTEXT
