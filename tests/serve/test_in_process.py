"""Routes of a server in this process, for what a server of its own cannot be brought to: small blocks, odd files."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from support import toy
from support.serving import LONG_S, data_uri, post_json, toy_collection

import tandem
from tandem import files
from tandem.errors import TandemError
from tandem.scores.calibration_files import save_calibration
from tandem.scores.relevance import Calibration, Coefficients
from tandem.scores.scoring import LabelCoefficients
from tandem.search import labelling
from tandem.serve.app import build_app
from tandem.serve.collections import originals
from tandem.serve.collections.map_documents import MapDocuments
from tandem.serve.service import Service, open_service
from tandem.serve.settings import Settings


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = open_service(Settings(batch_wait_s=0, store_queue=1), [str(toy_collection(tmp_path))])
    yield made
    made.close()


@pytest.fixture
def here(service: Service) -> TestClient:
    return TestClient(build_app(service), base_url="http://127.0.0.1:8000")


def test_pages_of_labelled_images_join_over_blocks_and_count_what_passes(
    here: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = ["a", "b", "c", "d", "e"]
    whole = post_json(here, "/v1/label", labels=labels, by="image")
    assert (whole["total"], len(whole["images"])) == (9, 9)
    assert {len(image["labels"]) for image in whole["images"]} == {3}
    monkeypatch.setattr(labelling, "_block", lambda labels: 2)
    pages = [post_json(here, "/v1/label", labels=labels, by="image", offset=at, limit=4) for at in (0, 4, 8)]
    assert [image for page in pages for image in page["images"]] == whole["images"]
    some = post_json(here, "/v1/label", labels=labels, by="image", where="path like '%/3.png'")
    assert (some["total"], len(some["images"])) == (1, 1)
    assert post_json(here, "/v1/search", text="a", where="path like '%/3.png'")["total"] == 1


def test_labels_by_themselves_are_those_of_the_model(tmp_path: Path) -> None:
    toy.folder(tmp_path / "model", logit_bias=True)
    service = open_service(Settings(batch_wait_s=0), [str(toy_collection(tmp_path))])
    here = TestClient(build_app(service), base_url="http://127.0.0.1:8000")
    file, labels = tmp_path / "photos" / "3.png", ["cat", "dog"]
    expected = tandem.load(tmp_path / "model").classify(file, labels, independent=True)
    shares = pytest.approx(dict(zip(labels, expected.probabilities[0].tolist(), strict=True)), rel=1e-3)
    asked = {"labels": labels, "independent": True}
    found = post_json(here, "/v1/classify", image=data_uri(file), **asked)
    assert (found["scoring"], found["results"][0]["probabilities"]) == ("sigmoid", shares)
    assert post_json(here, "/v1/classify", image=data_uri(file), labels=labels)["scoring"] == "softmax"
    by_label = post_json(here, "/v1/label", **asked)
    rows = {
        each["label"]: {image["path"]: image["probability"] for image in each["images"]} for each in by_label["labels"]
    }
    assert (by_label["scoring"], {label: row[str(file)] for label, row in rows.items()}) == ("sigmoid", shares)
    id = next(image["id"] for image in by_label["labels"][0]["images"] if image["path"] == str(file))
    assert post_json(here, "/v1/label", ids=[id], **asked)["results"][0]["probabilities"] == shares
    by_image = post_json(here, "/v1/label", by="image", where="path like '%/3.png'", **asked)
    assert {each["label"]: each["probability"] for each in by_image["images"][0]["labels"]} == shares
    assert post_json(here, "/v1/label", labels=labels)["scoring"] == "softmax"
    service.close()


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/label"])
def test_labels_by_themselves_are_refused_without_a_calibration(here: TestClient, tmp_path: Path, path: str) -> None:
    """And nobody learns in which folder the model is."""
    image = {"image": data_uri(tmp_path / "photos" / "1.png")} if path == "/v1/classify" else {}
    refused = here.post(path, json={"labels": ["cat"], "independent": True, **image})
    assert refused.status_code == 422
    assert "toy cannot judge a label by itself" in refused.json()["detail"]
    assert refused.json()["detail"].endswith("captions.parquet --model FOLDER, the model's folder")
    assert str(tmp_path) not in refused.text


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/label"])
def test_calibrated_labels_take_the_default_template(
    here: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    model = tandem.load(tmp_path / "model")
    same = Coefficients(0, 1, 0, 0, 0, 0, 10, 0.1, 0.1)
    labels = LabelCoefficients(-1.0, 8.0, -3.0, (0.0,) * model.config.embed_dim)
    save_calibration(Calibration(model.fingerprint, "toy", same, same, same, labels=labels, areas={"labels": {1: 0.9}}))
    body = {"labels": ["cat"], "independent": True}
    body |= {"image": data_uri(tmp_path / "photos" / "1.png")} if path == "/v1/classify" else {}
    assert post_json(here, path, **body)["scoring"] == "calibrated"
    for other in ({"templates": ["{}"]}, {"long": "split"}):
        refused = here.post(path, json=body | other)
        assert refused.status_code == 422
        assert "expected the default template with calibrated labels" in refused.json()["detail"]


def test_a_search_says_why_there_is_no_relevance(here: TestClient, tmp_path: Path) -> None:
    found = post_json(here, "/v1/search", text="a cat")
    assert "toy has no calibration" in found["relevance_reason"]
    assert {hit["relevance"] for hit in found["hits"]} == {None}


def test_an_image_that_browsers_do_not_show_is_a_download(here: TestClient, tmp_path: Path) -> None:
    toy.random_image(50).save(tmp_path / "scan.tif")
    toy.random_image(51).save(tmp_path / "photo.png")
    for name, kind, download in (
        ("scan.tif", "application/octet-stream", "attachment"),
        ("photo.png", "image/png", None),
    ):
        (added,) = post_json(here, "/v1/images", images=[data_uri(tmp_path / name)])["added"]
        original = here.get(f"/v1/images/{added['id']}/original")
        assert original.content == (tmp_path / name).read_bytes()
        assert original.headers["content-type"] == kind
        assert original.headers.get("content-disposition") == download


def test_a_question_that_is_answered_or_fails_makes_room_for_the_next(service: Service) -> None:
    async def ask() -> None:
        for _ in range(3):
            assert await service.registry.run(None, lambda leased: leased.collection.count()) == 9
            with pytest.raises(TandemError, match="no column"):
                await service.registry.run(None, lambda leased: leased.collection.count("nothing = 1"))

    asyncio.run(ask())
    assert service.registry.pending == 0


def test_a_map_is_made_anew_for_another_state_and_tried_again_after_a_failure() -> None:
    maps = MapDocuments()
    made: list[str] = []

    def make(text: str) -> Callable[[], bytes]:
        def document() -> bytes:
            made.append(text)
            if text == "bad":
                raise TandemError("no map")
            return text.encode()

        return document

    def wait(state: int, text: str) -> bytes:
        end = time.monotonic() + LONG_S
        while (document := maps.get("photos", state, make(text))) is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        return document

    assert wait(1, "first") == wait(1, "never") == b"first"
    assert wait(2, "second") == b"second"
    with pytest.raises(TandemError, match="no map"):
        wait(3, "bad")
    assert wait(3, "good") == b"good"
    assert made == ["first", "second", "bad", "good"]


def test_an_original_is_durable_and_only_what_was_stored_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync", synced.append)
    folder = tmp_path / "uploads"
    id, path, is_new = originals.keep(b"bytes", "JPEG", folder)
    assert (path.name, is_new, path.parent in synced) == (f"{id}.jpg", True, True)
    assert originals.keep(b"bytes", "JPEG", folder) == (id, path, False)
    elsewhere = tmp_path / "photos" / "ab" / path.name
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_bytes(b"bytes")
    originals.remove_kept([str(path), str(elsewhere)], folder)
    assert (path.exists(), elsewhere.exists()) == (False, True)


@pytest.mark.parametrize("name", ["photo-1.png", "2023/July/a b.jpg", "ü?#%", "x/thumbnail", "y/original", "n" * 100])
def test_an_image_of_any_id_is_reached_by_its_links(here: TestClient, service: Service, name: str) -> None:
    service.registry.collections["photos"].close()
    with tandem.open(service.registry.collections["photos"].url) as photos:
        photos.add({name: toy.random_image(60)})
    (hit,) = post_json(here, "/v1/search", text="a cat", k=1, where=f"id = '{name}'")["hits"]
    link = hit["thumbnail"]
    thumbnail = here.get(link)
    assert (thumbnail.status_code, thumbnail.headers["content-type"]) == (200, "image/jpeg")
    assert here.get(link, headers={"if-none-match": thumbnail.headers["etag"]}).status_code == 304
    described = here.get(link.removesuffix("/thumbnail"))
    assert described.json()["id"] == name
    assert described.json()["thumbnail"] == link
    assert here.get(described.json()["original"]).status_code == 404  # it has no file
    assert here.delete(link.removesuffix("/thumbnail")).json() == {"deleted": 1}
    assert here.get(link).status_code == 404


def test_a_collection_that_is_gone_is_listed_as_unavailable_beside_the_others(tmp_path: Path) -> None:
    urls = [str(toy_collection(tmp_path, name)) for name in ("a", "b")]
    service = open_service(Settings(batch_wait_s=0), urls)
    try:
        here = TestClient(build_app(service), base_url="http://127.0.0.1:8000")
        with tandem.open(urls[1]) as gone:
            gone.remove()
        first, second = here.get("/v1/collections").json()["data"]
        assert (first["name"], first["state"], first["count"]) == ("a", "ok", 9)
        assert (second["name"], second["state"]) == ("b", "unavailable")
        assert "cannot be read" in second["reason"]
        ready = here.get("/readyz")
        assert ready.status_code == 200
        assert (ready.json()["collections"], list(ready.json()["unavailable"])) == (1, ["b"])
        with tandem.open(urls[0]) as gone:
            gone.remove()
        assert here.get("/readyz").status_code == 503  # the default one
        assert {each["state"] for each in here.get("/v1/collections").json()["data"]} == {"unavailable"}
    finally:
        service.close()
