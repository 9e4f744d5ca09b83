"""The interface over HTTP: real servers on loopback with toy models, called as clients call them."""

import base64
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from support import toy
from support.serving import TOY_IMAGES as IMAGES
from support.serving import data_uri, post_json

from tandem.search.collection import Collection
from tandem.serve.http.schemas import Problem

pytestmark = pytest.mark.server


@pytest.fixture
def http(toy_http: httpx.Client) -> httpx.Client:
    return toy_http


@pytest.fixture
def photos(toy_photos: Collection) -> Collection:
    return toy_photos


# --- the answers are those of the local objects --------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", [{}, {"k": 3, "offset": 2}, {"where": "path like '%1.png' or path like '%2.png'"}, {"minus": "a dog"}]
)
def test_a_search_answers_what_the_collection_answers(
    http: httpx.Client, photos: Collection, query: dict[str, Any]
) -> None:
    found = post_json(http, "/v1/search", text="a cat", **query)
    expected = photos.search("a cat", **query).as_dict()
    assert found["total"] == (2 if "where" in query else IMAGES)
    assert found["collection"] == "photos"
    for hit in found["hits"]:
        assert hit.pop("thumbnail") == f"/v1/images/{hit['id']}/thumbnail"
    assert [(hit["id"], hit["metadata"], hit["path"]) for hit in found["hits"]] == [
        (hit["id"], hit["metadata"], hit["path"]) for hit in expected["hits"]
    ]
    scores = [[hit["score"] for hit in each["hits"]] for each in (found, expected)]
    np.testing.assert_allclose(*scores, atol=2e-6)
    assert {name: found[name] for name in ("query", "model", "nothing_matches", "threshold", "offset")} == {
        name: expected[name] for name in ("query", "model", "nothing_matches", "threshold", "offset")
    }


def test_a_search_by_image_comes_as_address_of_data_as_form_and_as_id(http: httpx.Client, place: Path) -> None:
    file = place / "photos" / "4.png"
    by_uri = post_json(http, "/v1/search", image=data_uri(file), k=2)
    form = http.post("/v1/search", files={"image": ("x.png", file.read_bytes())}, data={"k": "2"}).json()
    first = by_uri["hits"][0]
    by_id = post_json(http, "/v1/search", like=first["id"], k=2)
    assert first["path"] == str(file)
    assert first["score"] == pytest.approx(1, abs=1e-5)
    assert form["hits"] == by_uri["hits"]
    assert [hit["id"] for hit in by_id["hits"]] == [hit["id"] for hit in by_uri["hits"]]


def test_text_and_image_are_combined(http: httpx.Client, photos: Collection, place: Path) -> None:
    file = place / "photos" / "4.png"
    found = post_json(http, "/v1/search", text="a cat", image=data_uri(file), weight=0.4)
    expected = photos.search("a cat", image=file, weight=0.4)
    assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in expected]


def test_another_collection_is_searched_by_its_name(http: httpx.Client, place: Path) -> None:
    found = post_json(http, "/v1/search", text="a cat", collection="others", k=1)
    hit = found["hits"][0]
    assert Path(hit["path"]).parent == place / "others"
    assert http.get(hit["thumbnail"]).headers["content-type"] == "image/jpeg"
    assert http.post("/v1/search", json={"text": "a", "collection": "nope"}).status_code == 404
    assert [each["name"] for each in http.get("/v1/collections").json()["data"]] == ["photos", "others"]


def test_embeddings_are_the_models_in_the_order_given(http: httpx.Client, photos: Collection, place: Path) -> None:
    file = place / "photos" / "0.png"
    found = post_json(http, "/v1/embeddings", input=["a cat", data_uri(file), {"text": "a dog"}, "a cat"])
    rows = np.array([each["embedding"] for each in found["data"]], np.float32)
    cat, dog = photos.model.embed_texts(["a cat", "a dog"])
    np.testing.assert_allclose(rows, [cat, photos.model.embed_images(file)[0], dog, cat], atol=2e-6)
    assert [each["index"] for each in found["data"]] == [0, 1, 2, 3]
    packed = post_json(http, "/v1/embeddings", input="a cat", encoding_format="base64", model=photos.model.name)
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4"), cat, atol=2e-6)
    ids = photos.model.tokenizer.encode(["a cat"])[0]
    assert packed["usage"]["prompt_tokens"] == len(ids) + 2


def test_classes_are_the_models_and_bad_images_are_skipped(http: httpx.Client, photos: Collection, place: Path) -> None:
    files = [place / "photos" / "0.png", place / "photos" / "1.png"]
    labels = ["cat", "dog", "zebra"]
    uris = [data_uri(files[0]), "data:,no image", data_uri(files[1])]
    found = post_json(http, "/v1/classify", images=uris, labels=labels, templates=["a {}.", "{}"])
    expected = photos.model.classify(files, labels, templates=["a {}.", "{}"]).as_dict()
    assert [each["image"] for each in found["results"]] == ["images[0]", "images[2]"]
    for row, local in zip(found["results"], expected["results"], strict=True):
        assert row["best"] == local["best"]
        assert row["probabilities"] == pytest.approx(local["probabilities"], abs=1e-4)
    assert [(each["image"], each["kind"]) for each in found["failures"]] == [("images[1]", "unsupported")]


def test_labels_of_a_collection(http: httpx.Client, photos: Collection) -> None:
    labels = ["cat", "dog"]
    found = post_json(http, "/v1/label", labels=labels, k=2)
    local = photos.label(labels, k=2)
    assert [[each["id"] for each in row["images"]] for row in found["labels"]] == [
        [each.id for each in local[label]] for label in labels
    ]
    assert [[each["path"] for each in row["images"]] for row in found["labels"]] == [
        [each.path for each in local[label]] for label in labels
    ]
    pages = [post_json(http, "/v1/label", labels=labels, by="image", limit=5, offset=at) for at in (0, 5)]
    images = [each for page in pages for each in page["images"]]
    assert len({each["id"] for each in images}) == IMAGES
    some = post_json(http, "/v1/label", labels=labels, ids=[images[0]["id"]])["results"]
    best = images[0]["labels"][0]
    assert some[0]["best"] == best["label"]
    assert some[0]["probabilities"][best["label"]] == pytest.approx(best["probability"], abs=1e-5)


# --- images ------------------------------------------------------------------------------------------------------


def test_an_image_is_added_found_downloaded_and_removed(http: httpx.Client, place: Path, tmp_path: Path) -> None:
    file = tmp_path / "new.png"
    toy.random_image(100).save(file)
    for _ in range(2):  # what was taken out can come back
        added = post_json(http, "/v1/images", images=[data_uri(file), "data:,none"])
        assert [(each["image"], each["kind"]) for each in added["failures"]] == [("images[1]", "unsupported")]
        (one,) = added["added"]
        assert one["new"]
        hit = post_json(http, "/v1/search", image=data_uri(file), k=1)["hits"][0]
        assert hit["id"] == one["id"]
        original = http.get(f"/v1/images/{one['id']}/original")
        assert original.content == file.read_bytes()
        assert original.headers["content-type"] == "image/png"
        described = http.get(f"/v1/images/{one['id']}").json()
        assert described["width"] == toy.random_image(100).width
        assert described["paths"] == [described["path"]]
        (stored,) = (place / "photos.tandem" / "uploads").rglob(f"{one['id']}*")
        stored.unlink()  # a file that was lost comes back with the image
        again = http.post("/v1/images", files={"images": file.read_bytes()}).json()
        assert not again["added"][0]["new"]
        assert stored.read_bytes() == file.read_bytes()
        assert http.request("DELETE", "/v1/images", json={"ids": [one["id"]]}).json() == {"deleted": 1}
        for part in ("", "/thumbnail", "/original"):
            assert http.get(f"/v1/images/{one['id']}{part}").status_code == 404
        assert not list((place / "photos.tandem" / "uploads").rglob("*.png"))
    assert http.delete(f"/v1/images/{one['id']}").status_code == 404


@pytest.mark.parametrize("images", [["data:,none"], ["data:,none", "data:image/png;base64,AAAA"]])
def test_when_no_image_can_be_added_the_problem_lists_them(http: httpx.Client, images: list[str]) -> None:
    answer = http.post("/v1/images", json={"images": images})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert {"type", "title", "status", "detail", "failures", "error"} == set(document) - {"kind"}
    assert [each["image"] for each in document["failures"]] == [f"images[{place}]" for place in range(len(images))]
    assert document["failures"][0]["error"] in document["detail"]


def test_an_original_is_served_only_while_it_is_the_indexed_image(http: httpx.Client, place: Path) -> None:
    file = place / "others" / "3.png"
    content = file.read_bytes()
    hit = post_json(http, "/v1/search", image=data_uri(file), k=1, collection="others")["hits"][0]
    link = f"/v1/images/{hit['id']}/original?collection=others"
    good = http.get(link)
    assert good.content == content
    assert http.get(link, headers={"if-none-match": good.headers["etag"]}).status_code == 304
    try:
        file.unlink()
        file.symlink_to("/etc/passwd")
        assert http.get(link).status_code == 404
    finally:
        file.unlink()
        file.write_bytes(content)
    assert http.get(hit["thumbnail"]).status_code == 200
    assert http.delete(f"/v1/images/{hit['id']}?collection=others").json() == {"deleted": 1}
    assert file.read_bytes() == content  # a file that is not ours stays


# --- the document, errors, headers -----------------------------------------------------------------------------------


def test_examples_of_the_document_work_as_they_stand(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    tried = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            shape = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if shape is None:
                continue
            named = shape["$ref"].rsplit("/", 1)[-1]
            for example in document["components"]["schemas"][named]["examples"]:
                answer = http.request(method.upper(), path, json=example)
                assert answer.status_code in (200, 201), (path, answer.text)
                tried += 1
                for one in answer.json().get("added", ()):
                    assert http.delete(f"/v1/images/{one['id']}").status_code == 200
    assert tried >= 6


@pytest.mark.parametrize(
    ("path", "body", "further"),
    [
        ("/v1/search", {"text": "a cat", "bogus": 1}, {"errors"}),
        ("/v1/search", {"text": "a cat", "where": "width >"}, {"position"}),
        ("/v1/search", {"image": "data:image/png;base64,AAAA"}, {"kind", "failures"}),
        ("/v1/search", {"text": "a cat", "collection": "none"}, set()),
    ],
)
def test_every_member_of_a_problem_is_described(
    http: httpx.Client, path: str, body: dict[str, Any], further: set[str]
) -> None:
    document = http.post(path, json=body).json()
    assert set(document) == {"type", "title", "status", "detail", "error"} | further
    described = Problem.model_validate(document)
    assert not described.model_extra
    assert set(document["error"]) == set(type(described.error).model_fields)


def test_the_document_says_what_is_checked(http: httpx.Client) -> None:
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    search = schemas["SearchRequest"]
    assert search["properties"]["k"] == {"default": 10, "maximum": 1000, "minimum": 1, "title": "K", "type": "integer"}
    assert search["additionalProperties"] is False
    assert [way["required"] for way in search["anyOf"]] == [["text"], ["image"], ["like"]]
    assert schemas["AddRequest"]["properties"]["images"]["anyOf"][0]["maxItems"] == 256
    form = schemas["ClassifyRequestForm"]
    assert form["properties"]["image"] == {"type": "string", "format": "binary"}
    assert form["properties"]["images"]["items"] == {"type": "string", "format": "binary"}
    assert form["additionalProperties"] is False
    pattern = schemas["ClassifyRequest"]["properties"]["templates"]["anyOf"][1]["pattern"]
    for template in ("{}", "a {}.", "{{}", "{}}", "a { b {} }", "}{ {} {", "{}\n{"):
        assert re.search(pattern, template), template
    for template in ("", "a", "{ }", "{}{}", "{} and {}", "{{}}{}"):
        assert not re.search(pattern, template), template
    for value, status in ((3, 200), (3.0, 200), ("3", 422), (True, 422), (2.5, 422), (1001, 422)):
        assert http.post("/v1/search", json={"text": "a", "k": value}).status_code == status, value
    assert http.post("/v1/search", data={"text": "a", "k": "3"}, files={}).status_code == 415
    assert len(http.post("/v1/search", files={"text": (None, "a"), "k": (None, "3")}).json()["hits"]) == 3


def test_the_page_of_documents_asks_nobody_else(http: httpx.Client) -> None:
    page = http.get("/docs").text
    document = http.get("/openapi.json").json()
    assert all(path in page for path in document["paths"])
    assert "<script" not in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith("/") and not source.startswith("//") for source in sources)
    assert http.get("/docs.css").headers["content-type"].startswith("text/css")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("PUT", "/v1/search", b"{}", 405),
        ("POST", "/v1/search", b"{", 400),
        ("POST", "/v1/search", b'{"text": 3}', 422),
        ("POST", "/v1/search", b'{"txet": "a cat"}', 422),
        ("POST", "/v1/search", b'{"text": " "}', 422),
        ("POST", "/v1/search", b'{"text": "a", "where": "width >"}', 422),
        ("POST", "/v1/search", b'{"like": "00"}', 404),
        ("POST", "/v1/embeddings", b'{"input": []}', 422),
        ("POST", "/v1/embeddings", b'{"input": "a", "model": "another"}', 404),
    ],
)
def test_errors_are_problem_documents(
    http: httpx.Client, method: str, path: str, body: bytes | None, status: int
) -> None:
    answer = http.request(method, path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["title"]
    assert "Traceback" not in answer.text


def test_every_answer_has_sane_headers_and_none_is_for_other_sites(http: httpx.Client) -> None:
    for answer in (http.get("/healthz"), http.get("/nowhere"), http.post("/v1/search", content=b"{")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    crossing = http.post("/v1/images", files={"images": b"x"}, headers={"sec-fetch-site": "cross-site"})
    assert crossing.status_code == 403
