"""What HTTP clients expect: methods, HEAD, forms, error documents, one model by its id, a document that is true."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from support.serving import Server, data_uri, post_json

from tandem.model import load
from tandem.search.collection import Collection

pytestmark = pytest.mark.server


# --- methods -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/search", {"POST"}),
        ("HEAD", "/v1/search", {"POST"}),
        ("PUT", "/v1/search", {"POST"}),
        ("GET", "/v1/images", {"POST", "DELETE"}),
        ("POST", "/v1/images/00", {"GET", "HEAD", "DELETE"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("DELETE", "/healthz", {"GET", "HEAD"}),
    ],
)
def test_a_method_that_is_not_allowed_is_405_and_the_others_are_named(
    toy_http: httpx.Client, method: str, path: str, allowed: set[str]
) -> None:
    answer = toy_http.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert answer.headers["content-type"] == "application/problem+json"
    assert not answer.content if method == "HEAD" else answer.json()["status"] == 405


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/collections", "/healthz", "/openapi.json", "/docs", "/", "/app.js", "/nowhere"]
)
def test_head_is_get_without_a_body(toy_http: httpx.Client, path: str) -> None:
    whole, head = toy_http.get(path), toy_http.head(path)
    assert head.status_code == whole.status_code
    assert head.content == b""
    for name in ("content-type", "content-length", "cache-control", "content-security-policy"):
        assert head.headers[name] == whole.headers[name], name


def test_head_of_an_image(toy_http: httpx.Client) -> None:
    link = post_json(toy_http, "/v1/search", text="a cat", k=1)["hits"][0]["thumbnail"]
    head = toy_http.head(link)
    assert head.status_code == 200
    assert head.headers["content-type"] == "image/jpeg"
    assert int(head.headers["content-length"]) == len(toy_http.get(link).content) > 0
    assert head.content == b""


def test_one_model_by_its_name_or_fingerprint(toy_http: httpx.Client) -> None:
    (listed,) = toy_http.get("/v1/models").json()["data"]
    for name in (listed["id"], listed["fingerprint"]):
        assert toy_http.get(f"/v1/models/{name}").json() == listed
    for name in ("none", "ViT-B/32", "../x"):  # names of models have slashes
        answer = toy_http.get(f"/v1/models/{name}")
        assert answer.status_code == 404, name


# --- errors --------------------------------------------------------------------------------------------------------


def test_errors_are_what_clients_of_openai_look_for_too(toy_http: httpx.Client) -> None:
    for path, body, status, kind in (
        ("/v1/embeddings", {"input": "a", "model": "none"}, 404, "not_found_error"),
        ("/v1/embeddings", {"input": 5}, 422, "invalid_request_error"),
    ):
        answer = toy_http.post(path, json=body)
        document = answer.json()
        assert (answer.status_code, document["status"]) == (status, status)
        assert {"type", "title", "status", "detail"} <= set(document)  # RFC 9457
        assert document["detail"] in document["error"]["message"]
        assert document["error"]["type"] == kind
        assert set(document["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("path", "body", "meant"),
    [
        ("/v1/search", {"txet": "a cat"}, "text"),
        ("/v1/search", {"text": "a cat", "were": "width > 1"}, "where"),
        ("/v1/classify", {"image": "data:,", "label": ["a"]}, "labels"),
        ("/v1/embeddings", {"inputs": "a"}, "input"),
        ("/v1/images", {"imagess": []}, "images"),
    ],
)
def test_a_misspelt_field_gets_a_suggestion(
    toy_http: httpx.Client, path: str, body: dict[str, Any], meant: str
) -> None:
    answer = toy_http.post(path, json=body)
    assert answer.status_code == 422
    assert f"did you mean '{meant}'" in answer.json()["detail"] + str(answer.json()["errors"])


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/search", {"text": "LONG"}, "text"),
        ("/v1/search", {"text": "a cat", "minus": "LONG"}, "minus"),
        ("/v1/embeddings", {"input": "LONG"}, "input"),
        ("/v1/embeddings", {"input": ["a cat", "LONG", "LONG"]}, "input[1]"),
        ("/v1/label", {"labels": ["a cat", "LONG"]}, "labels[1]"),
        ("/v1/classify", {"labels": ["a cat", "LONG"], "image": "IMAGE"}, "labels[1]"),
        ("/v1/label", {"labels": ["a", "b"], "templates": ["a {}", "LONG {}"]}, "labels[0] in templates[1]"),
    ],
)
def test_a_text_beyond_the_context_is_a_problem_of_its_field(
    toy_http: httpx.Client, place: Path, path: str, body: dict[str, Any], field: str
) -> None:
    image = data_uri(next((place / "photos").glob("*.png")))
    written = json.dumps(body).replace("LONG", "cat " * 100).replace("IMAGE", image)
    answer = toy_http.post(path, content=written, headers={"content-type": "application/json"})
    document = answer.json()
    assert (answer.status_code, document["title"]) == (422, "Text too long")
    assert document["field"] == field
    assert document["tokens"] > document["limit"] > 2
    said = f"expected at most {document['limit']} tokens (not characters), start and end included"
    how = '"long": "split" averages the parts of such texts'
    assert document["detail"] == f"{field}: {said}, got {document['tokens']}; {how}"
    assert "truncate" not in answer.text
    assert "embed_texts" not in answer.text


def test_long_texts_are_split_or_cut_where_asked(toy_http: httpx.Client, place: Path) -> None:
    model = load(place / "model")
    text = "the cat runs. " * 20
    for long in ("split", "truncate"):
        answer = post_json(toy_http, "/v1/embeddings", input=["a cat", text], long=long)
        expected = model.embed_texts(["a cat", text], long=long)  # type: ignore[arg-type]
        np.testing.assert_allclose([row["embedding"] for row in answer["data"]], expected, atol=1e-5)
        used = answer["usage"]["prompt_tokens"]
        assert used == 77 + 4 if long == "truncate" else used > 100
        image = data_uri(next((place / "photos").glob("*.png")))
        labels = post_json(toy_http, "/v1/classify", image=image, labels=["a cat", text], long=long, templates="{}")
        logits = model.logits(model.embed_images(next((place / "photos").glob("*.png"))), expected)[0]
        np.testing.assert_allclose(
            [labels["results"][0]["logits"][label.strip()] for label in labels["labels"]], logits, atol=1e-3
        )
        assert post_json(toy_http, "/v1/label", labels=["a cat", text], long=long)["labels"]
    found = [post_json(toy_http, "/v1/search", text=text, k=3, long=long)["hits"] for long in ("split", "truncate")]
    assert [hit["score"] for hit in found[0]] != [hit["score"] for hit in found[1]]
    wrong = toy_http.post("/v1/search", json={"text": "a", "long": "cut"})
    assert wrong.status_code == 422
    assert "long" in wrong.json()["detail"]


def test_labels_in_a_language(toy_http: httpx.Client, place: Path) -> None:
    model, photo = load(place / "model"), next((place / "photos").glob("*.png"))
    body = {"image": data_uri(photo), "labels": ["Hund", "Katze"]}
    german = post_json(toy_http, "/v1/classify", language="de", **body)
    expected = model.classify(photo, ["Hund", "Katze"], language="de").as_dict()["results"][0]["probabilities"]
    assert german["results"][0]["probabilities"] == pytest.approx(expected, abs=1e-4)
    same = post_json(toy_http, "/v1/classify", templates="ein Foto von {}.", **body)
    assert same["results"][0]["probabilities"] == german["results"][0]["probabilities"]
    unknown = toy_http.post("/v1/label", json={"labels": ["a", "b"], "language": "eo"})
    assert unknown.status_code == 422
    assert "there are templates for ar, cs" in unknown.json()["detail"]


def test_images_that_cannot_be_read_say_of_which_kind_they_are(toy_http: httpx.Client, place: Path) -> None:
    png = (place / "photos" / "0.png").read_bytes()
    for value, kind in (
        (b"no image", "unsupported"),
        (png[:-40], "damaged"),
        ("https://example.org/a.png", "forbidden"),
        ("/etc/passwd", "invalid"),
    ):
        if isinstance(value, bytes):
            answer = toy_http.post("/v1/search", files={"image": value})
        else:
            answer = toy_http.post("/v1/search", json={"image": value})
        assert (answer.status_code, answer.json()["kind"]) == (422, kind)


# --- forms ---------------------------------------------------------------------------------------------------------


def test_an_image_is_a_file_of_a_form_wherever_one_is_accepted(
    toy_http: httpx.Client, toy_photos: Collection, place: Path
) -> None:
    path = place / "photos" / "4.png"
    file = ("x.png", path.read_bytes(), "image/png")
    expected = toy_photos.model.embed_images(path)[0]

    def sent(route: str, files: Any, **fields: Any) -> Any:
        answer = toy_http.post(route, files=files, data=fields)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    for field in ("image", "input"):
        (row,) = sent("/v1/embeddings", {field: file})["data"]
        np.testing.assert_allclose(row["embedding"], expected, atol=2e-6)
    rows = sent("/v1/embeddings", [("input", file), ("input", (None, "a cat")), ("input", file)])["data"]
    np.testing.assert_allclose(rows[2]["embedding"], expected, atol=2e-6)
    assert len(rows) == 3
    assert sent("/v1/search", {"image": file}, k="1")["hits"][0]["path"] == str(path)
    away = sent("/v1/search", {"minus_image": file}, text="a cat", k="9")["hits"]
    plain = post_json(toy_http, "/v1/search", text="a cat", k=9)["hits"]
    assert [hit["score"] for hit in away] != [hit["score"] for hit in plain]
    for files in ({"image": file}, [("images", file)]):
        (result,) = sent("/v1/classify", files, labels=["cat", "dog"])["results"]
        assert set(result["probabilities"]) == {"cat", "dog"}
    both = sent("/v1/classify", [("images", file), ("images", file)], labels=["cat", "dog"])
    assert [each["image"] for each in both["results"]] == ["images[0]", "images[1]"]
    for field in ("image", "images"):
        (added,) = sent("/v1/images", {field: file})["added"]
        assert not added["new"]  # it is in the collection already, from another file
        assert not list((place / "photos.tandem" / "uploads").rglob(f"{added['id']}*"))


def test_what_comes_once_in_json_comes_once_in_a_form(toy_http: httpx.Client, place: Path) -> None:
    file = (place / "photos" / "0.png").read_bytes()
    twice = toy_http.post("/v1/search", files=[("image", ("a", file)), ("image", ("b", file))])
    assert twice.status_code == 422
    assert "image: expected once, got 2 times" in twice.json()["detail"]
    as_text = toy_http.post("/v1/search", files={"text": ("a", file)})
    assert as_text.status_code == 422
    assert "text: expected text, got a file" in as_text.json()["detail"]


def test_one_image_or_several_but_not_both(toy_http: httpx.Client, place: Path) -> None:
    uri = data_uri(place / "photos" / "0.png")
    for path, more in (("/v1/classify", {"labels": ["a", "b"]}), ("/v1/images", {})):
        answer = toy_http.post(path, json={"image": uri, "images": [uri], **more})
        assert answer.status_code == 422
        assert "expected either image or images" in answer.json()["detail"]
    assert toy_http.post("/v1/embeddings", json={"image": uri, "input": "a"}).status_code == 422
    assert toy_http.post("/v1/embeddings", json={}).status_code == 422


# --- the documents -------------------------------------------------------------------------------------------------


def test_examples_name_the_server_itself(toy_http: httpx.Client, toy_server: Server) -> None:
    urls = set(re.findall(r"curl -X \w+ (https?://[^/]+)", toy_http.get("/docs").text))
    assert urls == {toy_server.url}
    by_name = toy_http.get("/docs", headers={"host": "localhost:1234"}).text
    assert set(re.findall(r"curl -X \w+ (https?://[^/]+)", by_name)) == {"http://localhost:1234"}


def test_places_of_an_image_are_a_list(toy_http: httpx.Client) -> None:
    hit = post_json(toy_http, "/v1/search", text="a cat", k=1)["hits"][0]
    assert toy_http.get(f"/v1/images/{hit['id']}").json()["paths"] == [hit["path"]]
    assert hit["metadata"]["paths"] == [hit["path"]]
