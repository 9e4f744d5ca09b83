"""A server over time: under load, past its deadlines, killed, moved to another model; and whom it lets in."""

import asyncio
import json
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from support import toy
from support.commands import COMMAND
from support.serving import LONG_S, data_uri, metric, post_json, serving, toy_collection

import tandem
from tandem.errors import TandemError
from tandem.search.migration import migrate
from tandem.serve.http.guard import RequestGuard
from tandem.serve.metrics import Metrics
from tandem.serve.run import bound
from tandem.serve.settings import Settings

pytestmark = pytest.mark.server

# --- under load ------------------------------------------------------------------------------------------------------


def test_concurrent_requests_share_batches(toy_http: httpx.Client) -> None:
    http = toy_http
    computed, batches = 'tandem_encoded_total{tower="text"}', 'tandem_batch_size_count{tower="text"}'
    before = metric(http, computed), metric(http, batches)
    together = threading.Barrier(16)

    def ask(place: int) -> int:
        together.wait(LONG_S)
        return http.post("/v1/embeddings", json={"input": f"number {place}"}).status_code

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(ask, range(16))) == {200}
    assert metric(http, computed) - before[0] == 16
    assert metric(http, batches) - before[1] < 12  # each waits 50 ms for others


def test_a_server_that_is_full_says_when_to_come_back_and_who_left_costs_nothing(place: Path) -> None:
    # The first of a batch waits for others as long as these tests need.
    with (
        serving(
            place / "photos.tandem", batch_wait_s=1.5, concurrency=1, deadline_s=8.0, read_only=True, batch_size=4
        ) as there,
        httpx.Client(base_url=there.url, timeout=LONG_S) as http,
    ):
        with ThreadPoolExecutor(1) as threads:
            for _ in range(10):  # on a busy machine the first may be answered before the second is sent
                first = threads.submit(httpx.post, f"{there.url}/v1/embeddings", json={"input": "a"}, timeout=LONG_S)
                while metric(http, "tandem_requests_in_flight") < 1 and not first.done():
                    time.sleep(0.01)
                refused = http.post("/v1/embeddings", json={"input": "b"})
                if refused.status_code == 503:
                    break
                assert first.result(LONG_S).status_code == 200
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["title"] == "Server is full"
            assert http.get("/healthz").status_code == 200  # who watches is let in
            assert first.result(LONG_S).status_code == 200
        encoded = metric(http, 'tandem_encoded_total{tower="text"}')
        with pytest.raises(httpx.ReadTimeout):
            http.post("/v1/embeddings", json={"input": "c"}, timeout=0.3)
        until = time.monotonic() + LONG_S
        while metric(http, "tandem_client_closed_requests_total") < 1 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(2)  # longer than it would have waited for its batch
        assert metric(http, "tandem_client_closed_requests_total") == 1
        assert metric(http, 'tandem_encoded_total{tower="text"}') == encoded
        assert http.delete("/v1/images/00").status_code == 403
        # A server that is told to stop finishes the requests in flight.
        with ThreadPoolExecutor(1) as threads:
            last = threads.submit(httpx.post, f"{there.url}/v1/embeddings", json={"input": "d"}, timeout=LONG_S)
            while metric(http, "tandem_requests_in_flight") < 1 and not last.done():
                time.sleep(0.01)
            there.process.send_signal(signal.SIGTERM)
            assert last.result(LONG_S).status_code == 200
        assert there.process.wait(LONG_S) in (0, -signal.SIGTERM)


def test_past_its_deadline_a_request_is_answered_503() -> None:
    cancelled: list[bool] = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            await asyncio.sleep(LONG_S)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    sent: list[Any] = []
    bodies: list[Any] = [{"type": "http.request", "body": b"{}"}]

    async def receive() -> Any:
        return bodies.pop() if bodies else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    guard = RequestGuard(slow, Settings(deadline_s=0.05), Metrics(), None)
    asyncio.run(guard({"type": "http", "method": "POST", "path": "/v1/search", "headers": []}, receive, send))
    assert [message.get("status") for message in sent] == [503, None]
    assert json.loads(sent[1]["body"])["title"] == "Deadline passed"
    assert cancelled == [True]


# --- what lasts -------------------------------------------------------------------------------------------------------


def test_a_killed_server_has_kept_what_it_acknowledged_and_another_one_sees_it(tmp_path: Path) -> None:
    collection = toy_collection(tmp_path)
    toy.random_image(101).save(tmp_path / "one.png")
    with serving(collection) as first, serving(collection) as second:
        added = httpx.post(
            f"{first.url}/v1/images", json={"images": [data_uri(tmp_path / "one.png")]}, timeout=LONG_S
        ).json()["added"]
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(LONG_S)
        found = httpx.get(f"{second.url}/v1/images/{added[0]['id']}/original", timeout=LONG_S)
        assert found.content == (tmp_path / "one.png").read_bytes()
        assert httpx.delete(f"{second.url}/v1/images/{added[0]['id']}", timeout=LONG_S).status_code == 200


def test_after_a_migration_every_answer_is_of_the_new_model_and_the_old_encoder_is_closed(tmp_path: Path) -> None:
    collection = toy_collection(tmp_path)
    other = tandem.load(toy.folder(tmp_path / "other", seed=5, name="other"))
    image = data_uri(tmp_path / "photos" / "0.png")
    with serving(collection, deadline_s=2.0) as there, httpx.Client(base_url=there.url, timeout=LONG_S) as http:
        old = post_json(http, "/v1/search", text="a cat")
        assert metric(http, "tandem_encoders") == 1
        migrate(str(collection), other)
        # what names no model comes first: nothing but it may tell the server that the collection has moved
        embedded = post_json(http, "/v1/embeddings", input="a cat")
        assert embedded["model"] == "other"
        np.testing.assert_allclose(embedded["data"][0]["embedding"], other.embed_texts("a cat")[0], atol=2e-6)
        classified = post_json(http, "/v1/classify", image=image, labels=["cat", "dog"])
        assert classified["model"]["name"] == "other"
        labelled = post_json(http, "/v1/label", labels=["cat", "dog"])
        assert labelled["model"]["name"] == "other"
        assert [each["id"] for each in http.get("/v1/models").json()["data"]] == ["other"]
        assert http.post("/v1/embeddings", json={"input": "a cat", "model": "toy"}).status_code == 404
        with tandem.open(collection) as photos:
            local = photos.search("a cat")
        new = post_json(http, "/v1/search", text="a cat")
        assert new["model"] == {"name": "other", "fingerprint": local.fingerprint} != old["model"]
        assert [hit["id"] for hit in new["hits"]] == [hit.id for hit in local]
        np.testing.assert_allclose([hit["score"] for hit in new["hits"]], [hit.score for hit in local], atol=2e-6)
        assert http.get("/readyz").status_code == 200
        assert http.get("/v1/collections").json()["data"][0]["model"] == "other"
        assert http.get(new["hits"][0]["thumbnail"]).status_code == 200
        until = time.monotonic() + LONG_S
        while metric(http, "tandem_encoders") > 1:  # the old one lingers for as long as a request may take
            assert time.monotonic() < until
            time.sleep(0.1)
        assert post_json(http, "/v1/embeddings", input="a dog")["model"] == "other"


def test_a_collection_that_is_gone_makes_the_server_not_ready(tmp_path: Path) -> None:
    collection = toy_collection(tmp_path)
    with serving(collection) as there, httpx.Client(base_url=there.url, timeout=LONG_S) as http:
        shutil.move(collection, tmp_path / "away")
        for answer in (http.get("/readyz"), http.post("/v1/search", json={"text": "a cat"})):
            assert answer.status_code == 503
            assert str(tmp_path) not in answer.text  # where things are is the server's own affair
        assert http.get("/healthz").status_code == 200
        shutil.move(tmp_path / "away", collection)
        assert http.get("/readyz").status_code == 200


# --- who is let in ---------------------------------------------------------------------------------------------------


def test_keys_are_required_and_a_wider_address_without_them_is_warned_of(place: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("the-right-key-of-ours\n")
    keys.chmod(0o600)
    with serving(place / "photos.tandem", keys_file=keys) as there, httpx.Client(base_url=there.url) as http:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": ""}):
            for path in ("/v1/models", "/metrics", "/v1/images/00/thumbnail", "/openapi.json"):
                refused = http.get(path, headers=headers)
                assert refused.status_code == 401, path
                assert refused.headers["www-authenticate"] == "Bearer"
        for headers in ({"authorization": "Bearer the-right-key-of-ours"}, {"x-api-key": "the-right-key-of-ours"}):
            assert http.get("/v1/models", headers=headers).status_code == 200
        assert http.get("/readyz").status_code == 200
        assert not [line for line in there.log if "warning" in line]
        busy = int(there.url.rsplit(":", 1)[1])
    with serving(place / "photos.tandem", host="0.0.0.0", port=busy) as wide:
        assert [line for line in wide.log if "warning" in line and "--api-key-file" in line]
        with pytest.raises(TandemError, match="another --port"):
            bound(Settings(host="0.0.0.0", port=busy))


def test_ctrl_c_stops_a_server_and_is_no_failure(tmp_path: Path) -> None:
    model = toy.folder(tmp_path / "model")
    command = [*COMMAND, "serve", "--port", "0", "--model", str(model)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        url = line.split(" at ")[1].split()[0]
        while httpx.get(f"{url}/healthz", timeout=LONG_S).status_code != 200:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=LONG_S)
    assert (process.returncode, said) == (0, "tandem: stopped\n")
