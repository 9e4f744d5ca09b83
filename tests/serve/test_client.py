"""`tandem.Client`: what it sends, what it makes of the answers, and that a real server gives the same."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from support.client_toys import client, embeddings, in_turn, ok, problem
from support.serving import Server
from support.toy import random_image, write_images

import tandem
from tandem.client.sending import data_uri
from tandem.errors import ImageError, ServerError

# --- what is sent and what comes of it ------------------------------------------------------------------------------


def test_texts_are_sent_in_batches_and_come_back_in_order() -> None:
    vectors = client(embeddings).embed_texts([f"{'x' * i}" for i in range(1, 8)], batch_size=3)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[:, 0], np.cos(range(1, 8)), rtol=1e-5)
    assert client(embeddings).embed_texts("one").shape == (1, 2)
    assert client(embeddings).embed_texts([]).shape == (0, 2)


def test_a_text_that_begins_like_an_image_is_sent_as_a_text() -> None:
    sent: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.extend(json.loads(request.content)["input"])
        return embeddings(request)

    client(handler).embed_texts(["data: what it is", "a"])
    assert sent == [{"text": "data: what it is"}, "a"]


def test_large_images_travel_in_bodies_that_a_server_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.client.sending.BODY_CHARACTERS", 1000)
    sizes: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sizes.append(len(json.loads(request.content)["input"]))
        return embeddings(request)

    images = [b"x" * 300] * 5 + [b"x" * 2000] + [b"x" * 300]  # 4/3 of it, and the head
    assert client(handler).embed_images(images).shape == (7, 2)
    assert sizes == [2, 2, 1, 1, 1]


def test_images_are_sent_as_the_bytes_they_are(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    random_image(1).save(file)
    for source in (file, str(file), file.read_bytes(), io.BytesIO(file.read_bytes())):
        assert base64.b64decode(data_uri(source).partition(",")[2]) == file.read_bytes()
    assert client(embeddings).embed_images([file, random_image(2)]).shape == (2, 2)
    assert client(embeddings).embed_images(file).shape == (1, 2)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"])
def test_images_in_memory_lose_nothing_on_the_way(mode: str) -> None:
    image = Image.new("I;16", (9, 7), 4000) if mode == "I;16" else random_image(3, (9, 7)).convert(mode)
    sent = Image.open(io.BytesIO(base64.b64decode(data_uri(image).partition(",")[2])))
    np.testing.assert_array_equal(
        np.asarray(sent.convert("RGB") if mode == "P" else sent),
        np.asarray(image.convert("RGB") if mode == "P" else image),
    )
    if mode == "RGB":
        assert data_uri(np.asarray(image)) == data_uri(image)


def test_an_image_that_cannot_be_read_here_is_an_image_error() -> None:
    with pytest.raises(ImageError, match=r"none\.png: no such file"):
        client(embeddings).embed_images("none.png")


@pytest.mark.slow
def test_classify_answers_as_the_model_does(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    random_image(1).save(file)

    def handler(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        assert body["labels"] == ["cat", "dog"]
        assert body["templates"] == ["{}!"]
        results = [
            {"image": f"images[{i}]", "best": "dog", "probabilities": {}, "logits": {"dog": 2.0, "cat": 1.0}}
            for i in range(len(body["images"]))
            if i != 1
        ]
        failures = [{"image": "images[1]", "error": "bad", "kind": "damaged"}] if len(body["images"]) > 1 else []
        model = {"name": "toy", "fingerprint": "f"}
        return httpx.Response(
            200, json={"model": model, "labels": body["labels"], "results": results, "failures": failures}
        )

    # of three in a batch the second is unreadable here and the third there; the fourth is in the next batch
    answer = client(handler).classify([file, "none.png", b"bad", file], ["cat", "dog"], templates="{}!", batch_size=3)
    assert isinstance(answer, tandem.Answer)
    assert answer.sources == (str(file), str(file))
    assert answer.best == ["dog", "dog"]
    np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1, rtol=1e-6)
    assert [(failure.index, failure.error.reason, failure.error.kind) for failure in answer.failures] == [
        (1, "no such file or folder", "not_found"),
        (2, "bad", "damaged"),
    ]
    assert answer.as_dict()["model"] == {"name": "toy", "fingerprint": "f"}
    assert answer.plot(tmp_path / "a.svg").exists()


def test_a_single_bad_image_is_skipped_too() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        images = json.loads(request.content)["images"]
        if "YmFk" in images[0]:
            failure = {"image": "images[0]", "error": "not an image", "kind": "unsupported"}
            return problem(422, "Image cannot be read", "images[0]: not an image", failures=[failure])
        if "dGV4dA" in images[0]:
            return problem(422, "Request does not fit", "labels")
        model = {"name": "toy", "fingerprint": "f"}
        results = [{"image": "images[0]", "best": "a", "probabilities": {}, "logits": {"a": 2.0}}]
        return httpx.Response(200, json={"model": model, "labels": ["a"], "results": results, "failures": []})

    answer = client(handler).classify([b"good", b"bad"], ["a"], batch_size=1)
    assert len(answer) == 1
    assert [(failure.index, failure.error.reason, failure.error.kind) for failure in answer.failures] == [
        (1, "not an image", "unsupported")
    ]
    with pytest.raises(ImageError, match="<bytes>: not an image"):
        client(handler).classify(b"bad", ["a"])
    with pytest.raises(ServerError, match="does not fit"):
        client(handler).classify(b"text", ["a"])


def test_search_answers_as_the_collection_does() -> None:
    seen: list[dict[str, Any]] = []
    document = {
        "query": {"text": "a cat"},
        "model": {"name": "toy", "fingerprint": "f"},
        "nothing_matches": True,
        "threshold": 0.5,
        "relevance_reason": None,
        "offset": 10,
        "hits": [
            {
                "id": "x",
                "path": "/a.jpg",
                "score": 0.25,
                "relevance": 0.75,
                "metadata": {"width": 5},
                "thumbnail": "/v1/images/x/thumbnail",
            }
        ],
    }

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(200, json=document)

    results = client(handler).search("a cat", image=random_image(1), k=1, offset=10, where="width > 1", minus="dogs")
    assert seen[0].pop("image").startswith("data:image/")
    assert seen == [{"text": "a cat", "k": 1, "offset": 10, "where": "width > 1", "minus": "dogs"}]
    assert (results[0].path, results[0].metadata["width"], len(results)) == ("/a.jpg", 5, 1)
    assert results.nothing_matches  # of the first page; this page cannot tell
    said = {**document, "hits": [{k: v for k, v in document["hits"][0].items() if k != "thumbnail"}]}  # type: ignore[attr-defined, index]
    assert results.as_dict() == said


def test_why_there_is_no_relevance_comes_too() -> None:
    document = {
        **{"query": {"text": "a"}, "model": {"name": "toy", "fingerprint": "f"}, "nothing_matches": False, "offset": 0},
        **{"threshold": None, "relevance_reason": "toy has no calibration", "hits": []},
    }
    results = client(lambda request: httpx.Response(200, json=document)).search("a")
    assert results.relevance_reason == "toy has no calibration"


def test_labels_by_themselves_are_asked_for_and_said_to_be() -> None:
    """Only where they are asked for: an earlier server would refuse the field."""
    seen: list[dict[str, Any]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        scoring = {"scoring": "sigmoid"} if seen[-1].get("independent") else {}
        if request.url.path == "/v1/label":
            return httpx.Response(200, json={"labels": [{"label": "a", "images": []}], **scoring})
        results = [{"image": "images[0]", "best": "a", "logits": {"a": 0.0, "b": 2.0}, "probabilities": {}}]
        about = {"model": {"name": "toy", "fingerprint": "f"}, "labels": ["a", "b"], "failures": []}
        return httpx.Response(200, json={**about, **scoring, "results": results})

    answer = client(handler).classify(random_image(1), ["a", "b"], independent=True)
    assert (answer.scoring, seen[0]["independent"]) == ("sigmoid", True)
    np.testing.assert_allclose(answer.probabilities, [[0.5, 0.880797]], rtol=1e-5)
    assert client(handler).classify(random_image(1), ["a", "b"]).scoring == "softmax"  # of an earlier server
    client(handler).label(["a"], independent=True)
    client(handler).label(["a"])
    assert ["independent" in body for body in seen] == [True, False, True, False]


def test_thumbnails_and_ids_that_are_no_paths() -> None:
    handler, requests = in_turn(httpx.Response(200, content=b"jpeg"), problem(404), problem(401))
    there = client(handler)
    assert there.thumbnail("../../etc?x#y") == b"jpeg"
    assert requests[0].url.raw_path == b"/v1/images/..%2F..%2Fetc%3Fx%23y/thumbnail"
    assert there.thumbnail("unknown") is None
    with pytest.raises(ServerError):
        there.thumbnail("x")


def test_the_key_is_sent_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    handler, requests = in_turn(ok(), ok(), ok())
    there = client(handler, api_key="secret")
    there.models()
    assert requests[0].headers["authorization"] == "Bearer secret"
    assert "secret" not in repr(there)
    client(handler).models()
    assert "authorization" not in requests[1].headers
    monkeypatch.setenv("TANDEM_API_KEY", "from-outside")
    client(handler).models()
    assert requests[2].headers["authorization"] == "Bearer from-outside"


# --- a real server --------------------------------------------------------------------------------------------------


@pytest.fixture
def there(toy_server: Server, toy_photos: tandem.Collection) -> Iterator[tuple[tandem.Client, tandem.Collection]]:
    """A client of a server, and the collection that it serves, opened in this process."""
    with tandem.Client(toy_server.url) as client:
        yield client, toy_photos


@pytest.mark.server
def test_a_server_gives_what_the_local_objects_give(
    there: tuple[tandem.Client, tandem.Collection], tmp_path: Path
) -> None:
    client, local = there
    on_disk = write_images(tmp_path, 3)
    files = [random_image(7), *on_disk]
    assert client.ready()
    np.testing.assert_allclose(client.embed_images(files), local.model.embed_images(files), atol=1e-6)
    texts = ["a cat", "data:text/plain,hello", "a dog"]
    np.testing.assert_allclose(client.embed_texts(texts), local.model.embed_texts(texts), atol=1e-6)
    bad = [b"bad", on_disk[0].read_bytes()[:-40]]
    mine, theirs = (each.classify([*files, *bad], ["a", "b"], templates="{}") for each in (local.model, client))
    assert theirs.sources == mine.sources
    np.testing.assert_allclose(theirs.probabilities, mine.probabilities, atol=1e-5)
    assert [(failure.index, failure.error.kind) for failure in theirs.failures] == [(4, "unsupported"), (5, "damaged")]
    assert theirs.as_dict()["failures"] == mine.as_dict()["failures"]
    for alone, failure in zip(bad, mine.failures, strict=True):
        with pytest.raises(ImageError) as caught:
            client.classify(alone, ["a", "b"])
        assert caught.value.as_dict() == failure.error.as_dict()
    assert theirs.as_dict()["model"] == mine.as_dict()["model"]
    for query in (
        {"text": "a cat"},
        {"image": random_image(2)},
        {"text": "a", "image": random_image(2), "weight": 0.2},
    ):
        theirs_, mine_ = (each.search(k=3, offset=1, where="width > 1", **query) for each in (client, local))
        assert [hit.id for hit in theirs_] == [hit.id for hit in mine_]
        assert [hit.path for hit in theirs_] == [hit.path for hit in mine_]
        np.testing.assert_allclose([hit.score for hit in theirs_], [hit.score for hit in mine_], atol=1e-5)
        assert theirs_.nothing_matches == mine_.nothing_matches
    labelled = client.label(["cat", "dog"], k=2)
    assert {label: [best.id for best in row] for label, row in labelled.items()} == {
        label: [best.id for best in row] for label, row in local.label(["cat", "dog"], k=2).items()
    }
    named = {"dog": {"de": "Hund"}, "cat": {"de": "Katze"}}
    mine, theirs = (each.classify(files, named, language="de") for each in (local.model, client))
    assert theirs.labels == mine.labels == ("dog", "cat")
    np.testing.assert_allclose(theirs.probabilities, mine.probabilities, atol=1e-5)
    assert [list(each.label(named, language="de", k=1)) for each in (client, local)] == [["dog", "cat"]] * 2
    long = "the cat runs. " * 20
    np.testing.assert_allclose(
        client.embed_texts(long, long="split"), local.model.embed_texts(long, long="split"), atol=1e-6
    )
    found = [[hit.id for hit in each.search(long, long="split")] for each in (client, local)]
    assert found[0] == found[1]
    first = local.search("a", k=1)[0].id
    assert client.thumbnail(first) == local.thumbnail(first)
    assert client.thumbnail("0" * 32) is None
    assert [each["id"] for each in client.models()] == [local.model.name]
    assert [each["name"] for each in client.collections()] == ["photos", "others"]
    with pytest.raises(ServerError, match="Filter cannot be understood"):
        client.search("a", where="width >")


@pytest.mark.server
def test_images_come_and_go(there: tuple[tandem.Client, tandem.Collection]) -> None:
    client, _ = there
    (account,) = client.add([random_image(20), b"bad", random_image(21)])
    ids = [each["id"] for each in account["added"]]
    assert len(ids) == 2
    assert [each["image"] for each in account["failures"]] == ["images[1]"]
    assert client.search(image=random_image(20), k=1)[0].id == ids[0]
    assert client.delete(ids) == 2
    assert client.delete(ids[0]) == 0
    for bad in ([b"bad"], [b"bad", b"worse"]):  # none of them: still an account of each
        (account,) = client.add(bad)
        assert account["added"] == []
        assert [each["image"] for each in account["failures"]] == [f"images[{i}]" for i in range(len(bad))]
