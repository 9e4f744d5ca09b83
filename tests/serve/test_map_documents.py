"""The map of a collection, computed in a thread: what goes wrong there keeps its kind on the way to the client."""

import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.serving import LONG_S, toy_collection

from tandem.errors import StoreBusyError, StoreError, TandemError

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from tandem.serve.app import build_app
from tandem.serve.collections.map_documents import MapDocuments
from tandem.serve.encoding.batching import Batcher
from tandem.serve.routes import image_map
from tandem.serve.service import open_service
from tandem.serve.settings import Settings


def computed(client: TestClient) -> httpx.Response:
    end = time.monotonic() + LONG_S
    while (answer := client.get("/v1/map")).status_code == 202:
        assert time.monotonic() < end
        time.sleep(0.01)
    return answer


@pytest.mark.slow
def test_an_error_of_the_thread_has_the_status_of_its_kind_and_the_next_request_tries_again_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))  # in which no class vectors are yet
    app = build_app(open_service(Settings(), [str(toy_collection(tmp_path))]))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        for error, status, title in (
            (StoreError("/somewhere/photos.tandem is damaged"), 503, "Collection unavailable"),
            (StoreBusyError("busy"), 503, "Collection is being written to"),
            (TandemError("no clusters"), 422, "Request cannot be answered"),
            (ValueError("a bug"), 500, "Internal error"),
        ):

            def fails(*_: object, error: Exception = error) -> bytes:
                raise error

            with monkeypatch.context() as patched:
                patched.setattr(image_map, "map_document", fails)
                answer = computed(client)
            assert (answer.status_code, answer.json()["title"]) == (status, title)
            assert "somewhere" not in answer.text
        put, lanes = Batcher.put, []

        def noted(self: Batcher[Any, Any], *arguments: Any, background: bool = False, **options: Any) -> Any:
            lanes.append(background)
            return put(self, *arguments, background=background, **options)

        monkeypatch.setattr(Batcher, "put", noted)
        document = computed(client).json()
        assert set(lanes) == {True}  # what is encoded for a map stands behind people
        assert document["count"] == 9
        assert {image["cluster"] for image in document["images"]} <= set(range(len(document["clusters"])))


def test_a_collection_that_keeps_changing_has_one_map_computed_at_a_time() -> None:
    maps = MapDocuments()
    began, go = threading.Event(), threading.Event()

    def slow() -> bytes:
        began.set()
        assert go.wait(30)
        return b"first"

    assert maps.get("photos", 1, slow) is None
    assert began.wait(30)
    for state in range(2, 50):
        assert maps.get("photos", state, lambda: b"never") is None
    assert sum(thread.name == "tandem-map" for thread in threading.enumerate()) == 1
    go.set()
    until = time.monotonic() + 30
    while maps.get("photos", 1, slow) != b"first":
        assert time.monotonic() < until
        time.sleep(0.01)
