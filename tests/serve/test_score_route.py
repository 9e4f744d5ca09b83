"""POST /v1/score and the client's method: the scores of the local functions, in order, within bounds."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from support import toy
from support.serving import client_of, data_uri, post_json, toy_collection

import tandem
from tandem.client import Client
from tandem.clip_score import clip_score
from tandem.errors import DataError, ImageError, TandemError
from tandem.search.indexing.image_record import image_id
from tandem.serve.app import build_app
from tandem.serve.service import open_service
from tandem.serve.settings import Settings

PROMPTS = ["a cat", "a dog", "do " * 200]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("scored")
    toy_collection(here)
    toy.write_images(here / "x", 3)
    return here


@pytest.fixture(scope="module")
def http(folder: Path) -> Iterator[httpx.Client]:
    made = open_service(Settings(batch_wait_s=0, max_batch=8), [str(folder / "photos.tandem")])
    yield TestClient(build_app(made), base_url="http://127.0.0.1:8000")
    made.close()


@pytest.fixture
def client(http: httpx.Client) -> Client:
    return client_of(http, retries=0)


@pytest.fixture
def images(folder: Path) -> list[Path]:
    return sorted((folder / "x").glob("*.png"))


def test_the_scores_of_the_local_function(http: httpx.Client, folder: Path, images: list[Path]) -> None:
    answer = post_json(http, "/v1/score", images=[*map(data_uri, images)], prompts=PROMPTS, prefix="A photo depicts")
    local = clip_score(tandem.load(folder / "model"), images, PROMPTS, prefix="A photo depicts")
    assert [row["clip_score"] for row in answer["results"]] == pytest.approx(local.scores.tolist(), abs=1e-5)
    assert [row["cut_tokens"] > 0 for row in answer["results"]] == [False, False, True]
    assert answer["results"][2]["cut_tokens"] == local.cut[0].cut
    assert answer["figures"]["clip_score"]["value"] == pytest.approx(local.figure.value, abs=1e-5)
    assert answer["model"]["fingerprint"] == local.model.fingerprint
    document = local.as_dict()
    assert answer.keys() == document.keys()
    assert [row.keys() for row in answer["results"]] == [row.keys() for row in document["results"]]
    assert answer["figures"].keys() == document["figures"].keys()
    assert answer["figures"]["clip_score"]["chance"] == pytest.approx(local.figure.chance, abs=1e-5)


def test_the_client(client: Client, folder: Path, images: list[Path]) -> None:
    local = clip_score(tandem.load(folder / "model"), images, PROMPTS)
    found = client.score(images, PROMPTS, batch_size=2)
    assert [row["clip_score"] for row in found] == pytest.approx(local.scores.tolist(), abs=1e-5)
    assert [row["image"] for row in found] == [str(image) for image in images]
    for prompts in (PROMPTS[:2], [*PROMPTS, "more"]):
        with pytest.raises(DataError, match="prompts: expected one for each of the"):
            client.score(images, prompts)


def test_the_client_takes_one_prompt_for_all_images(client: Client, folder: Path, images: list[Path]) -> None:
    local = clip_score(tandem.load(folder / "model"), images[:2], "ab")  # as many letters as images
    found = client.score(images[:2], "ab")
    assert [(row["row"], row["prompt"]) for row in found] == [(0, "ab"), (1, "ab")]
    assert [row["clip_score"] for row in found] == pytest.approx(local.scores.tolist(), abs=1e-5)


def test_the_client_answers_for_what_can_be_read_and_lists_the_rest(
    client: Client, images: list[Path], tmp_path: Path
) -> None:
    some = [images[0], b"no image", tmp_path / "gone.png", images[1]]
    for batch_size in (1, 2, 9):
        found = client.score(some, ["a", "b", "c", "d"], batch_size=batch_size)
        assert [(row["row"], row["prompt"]) for row in found] == [(0, "a"), (3, "d")]
        assert [(each.index, each.error.kind) for each in found.failures] == [(1, "unsupported"), (2, "not_found")]
    with pytest.raises(DataError, match="each of the 4 images, got 5"):
        client.score(some, ["a", "b", "c", "d", "e"])
    with pytest.raises(ImageError):
        client.score(some[1:3], "a")
    with pytest.raises(TandemError, match="got both"):
        client.locate(images[0], "dog", id="00")
    with pytest.raises(TandemError, match="got neither"):
        client.locate(texts="dog")


def test_images_of_a_collection_are_scored_by_their_vectors(http: httpx.Client, folder: Path) -> None:
    photo = sorted((folder / "photos").iterdir())[0]
    identifier = image_id(photo.read_bytes())
    answer = post_json(http, "/v1/score", ids=[identifier] * 2, prompts=PROMPTS[:2], collection="photos")
    local = clip_score(tandem.load(folder / "model"), [photo] * 2, PROMPTS[:2])
    assert [row["clip_score"] for row in answer["results"]] == pytest.approx(local.scores.tolist(), abs=1e-3)
    assert [(row["image"], row["prompt"]) for row in answer["results"]] == [(identifier, each) for each in PROMPTS[:2]]
    for body, status, says in (
        ({"ids": ["00"]}, 404, "no image '00'"),
        ({"ids": [identifier], "model": "x"}, 422, "by the model of their collection"),
        ({"ids": [identifier], "images": ["data:,"]}, 422, "either images or ids"),
        ({"ids": [identifier] * 2}, 422, "one for each of the 2 images, got 1"),
    ):
        refused = http.post("/v1/score", json={"prompts": ["a"], **body})
        assert refused.status_code == status, refused.text
        assert says in refused.text


def test_what_cannot_be_read_and_what_is_refused(http: httpx.Client, images: list[Path]) -> None:
    good, bad = data_uri(images[0]), "data:image/png;base64,AAAA"
    answer = post_json(http, "/v1/score", images=[bad, good], prompts=["a", "b"])
    assert [row["image"] for row in answer["results"]] == ["images[1]"]
    assert [row["image"] for row in answer["failures"]] == ["images[0]"]
    # What comes after a broken image keeps its own prompt
    long = ["x", PROMPTS[2], PROMPTS[0]]
    answer = post_json(http, "/v1/score", images=[bad, *map(data_uri, images[:2])], prompts=long)
    alone = post_json(http, "/v1/score", images=[*map(data_uri, images[:2])], prompts=long[1:])
    assert [(row["row"], row["prompt"]) for row in answer["results"]] == [(1, PROMPTS[2]), (2, PROMPTS[0])]
    assert [row["cut_tokens"] > 0 for row in answer["results"]] == [True, False]
    assert [row["cosine"] for row in answer["results"]] == pytest.approx(
        [row["cosine"] for row in alone["results"]], abs=1e-6
    )
    nothing = post_json(http, "/v1/score", images=[bad, bad], prompts=["a", "b"])
    assert (nothing["figures"], nothing["results"], len(nothing["failures"])) == ({}, [], 2)
    for body, status, says in (
        ({"images": [good], "prompts": ["a", "b"]}, 422, "one for each of the 1 images, got 2"),
        ({"images": [good] * 9, "prompts": ["a"] * 9}, 413, "8"),
        ({"images": [good], "prompts": [PROMPTS[2]], "long": "error"}, 422, "tokens"),
        ({"images": [bad], "prompts": ["a"]}, 422, "images[0]"),
        ({"images": [good]}, 422, "prompts"),
    ):
        refused = http.post("/v1/score", json=body)
        assert refused.status_code == status, refused.text
        assert says in refused.text
