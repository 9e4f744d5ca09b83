"""What may happen to a server while it runs: a full disk, a vector that is no number, no memory. It says so, and loses
nothing. In this process, where it can be made to happen.
"""

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from support import toy
from support.serving import data_uri, post_json, toy_collection

from tandem.errors import StoreFullError
from tandem.search import searching
from tandem.search.stores.embedded.store import EmbeddedStore
from tandem.serve.app import build_app
from tandem.serve.collections import originals
from tandem.serve.collections.quotas import FILE
from tandem.serve.service import Service, open_service
from tandem.serve.settings import Settings

KEYS = {"anna": "the-key-of-anna-0001", "ben": "the-key-of-ben-00001"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    keys = tmp_path / "keys"
    keys.write_text("\n".join(KEYS.values()))
    settings = Settings(batch_wait_s=0, keys_file=keys, upload_images=3, corrections=tmp_path / "corrections")
    made = open_service(settings, [str(toy_collection(tmp_path))])
    yield made
    made.close()


@pytest.fixture
def http(service: Service) -> TestClient:
    headers = {"x-api-key": KEYS["anna"]}
    return TestClient(build_app(service), "http://127.0.0.1:8000", headers=headers, raise_server_exceptions=False)


def uri(here: Path, seed: int) -> str:
    path = here / f"{seed}.png"
    toy.random_image(seed).save(path)
    return data_uri(path)


def uploads(here: Path) -> list[str]:
    return sorted(file.name for file in (here / "photos.tandem" / "uploads").rglob("*.*") if file.name != FILE)


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["detail"])


def test_a_full_disk_is_507_and_loses_nothing(
    http: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = post_json(http, "/v1/images", image=uri(tmp_path, 70))["added"]
    before = uploads(tmp_path)
    write, written = originals.write_bytes, []

    def full(path: Path, content: bytes, *, fsync: bool) -> None:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.append(path)
        write(path, content, fsync=fsync)

    with monkeypatch.context() as patched:
        patched.setattr(originals, "write_bytes", full)
        answer = http.post("/v1/images", json={"images": [uri(tmp_path, 71), uri(tmp_path, 72)]})
        assert "disk of the server is full; nothing that was stored is lost" in refused(answer, 507)
        assert str(tmp_path) not in answer.text
    assert written
    assert uploads(tmp_path) == before  # nor of the one that was written before the disk was full
    with monkeypatch.context() as patched:

        def no_room(*_: Any, **__: Any) -> None:
            raise StoreFullError(f"{tmp_path}: the disk is full")

        patched.setattr(EmbeddedStore, "upsert", no_room)
        answer = http.post("/v1/images", json={"image": uri(tmp_path, 71)})
        assert "disk of the server is full" in refused(answer, 507)
        assert str(tmp_path) not in answer.text
    assert uploads(tmp_path) == before
    assert http.get(first["thumbnail"]).status_code == 200
    post_json(http, "/v1/images", image=uri(tmp_path, 71))  # there is room again


def test_uploads_have_a_quota_for_each_key(http: TestClient, tmp_path: Path) -> None:
    added = post_json(http, "/v1/images", images=[uri(tmp_path, seed) for seed in (70, 71, 74)])["added"]
    assert "this one has added 3" in refused(http.post("/v1/images", json={"image": uri(tmp_path, 72)}), 403)
    assert len(uploads(tmp_path)) == 3
    post_json(http, "/v1/images", image=uri(tmp_path, 70))  # it is there
    ben = {"x-api-key": KEYS["ben"]}
    assert http.post("/v1/images", json={"image": uri(tmp_path, 73)}, headers=ben).status_code == 201
    assert http.delete(added[0]["thumbnail"].removesuffix("/thumbnail")).status_code == 200
    post_json(http, "/v1/images", image=uri(tmp_path, 72))


def test_a_search_that_nobody_could_read_makes_the_server_not_ready(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert http.get("/readyz").status_code == 200
    found = searching._nearest

    def of_no_number(*arguments: Any) -> Any:
        first, *others = found(*arguments)
        return [replace(first, score=float("nan")), *others]

    monkeypatch.setattr(searching, "_nearest", of_no_number)
    assert http.post("/v1/search", json={"text": "a"}).status_code == 500
    assert "a search cannot be answered" in refused(http.get("/readyz"), 503)


def test_an_encoder_of_no_numbers_makes_the_server_not_ready(
    http: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    (encoder,) = service.registry.pool.encoders
    encode = encoder.texts._work
    monkeypatch.setattr(encoder.texts, "_work", lambda rows: [each * np.float32("nan") for each in encode(rows)])
    assert "vectors that are not finite" in refused(http.get("/readyz"), 503)


def test_a_request_without_memory_is_503(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(searching, "_nearest", none_left)
    assert "no memory left" in refused(http.post("/v1/search", json={"text": "a"}), 503)


def test_keys_that_went_bad_close_the_server_and_are_told(http: TestClient, service: Service, tmp_path: Path) -> None:
    keys = service.keys
    assert keys is not None
    (tmp_path / "keys").write_text("")
    keys._checked = float("-inf")  # half a second later
    assert "no key is accepted" in refused(http.get("/v1/models"), 503)
    assert "API keys cannot be read" in refused(http.get("/readyz"), 503)
    assert http.get("/healthz").status_code == 200
    (tmp_path / "keys").write_text(KEYS["ben"])
    keys.reload()
    refused(http.get("/v1/models"), 401)
    assert http.get("/v1/models", headers={"x-api-key": KEYS["ben"]}).status_code == 200
    assert http.get("/readyz").status_code == 200
