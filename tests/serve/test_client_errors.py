"""`tandem.Client` when things go wrong: what is asked again and when, and what becomes an error."""

import threading

import httpx
import pytest
from support.client_toys import client, embeddings, in_turn, ok, problem

import tandem
from tandem.errors import ClientError, ServerError, TandemError


@pytest.mark.parametrize(
    "trouble",
    [problem(503), problem(429), problem(502), problem(504), httpx.ConnectError("refused"), httpx.ReadError("reset"),
     httpx.RemoteProtocolError("hung up"), httpx.ConnectTimeout("slow")],
    ids=["503", "429", "502", "504", "refused", "reset", "hung up", "no connection"],
)  # fmt: skip
def test_transient_errors_are_retried(trouble: httpx.Response | Exception) -> None:
    handler, requests = in_turn(trouble, trouble, ok())
    waits: list[float] = []
    assert client(handler, waits).models() == []
    assert len(requests) == 3
    assert len(waits) == 2
    assert all(0 < wait < 2 for wait in waits)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 500, 501])
def test_other_errors_are_not_retried(status: int) -> None:
    handler, requests = in_turn(problem(status, "Filter cannot be understood", "at letter 3"))
    with pytest.raises(ServerError, match="Filter cannot be understood: at letter 3") as caught:
        client(handler).search("a")
    assert (caught.value.status, caught.value.title, caught.value.detail) == (
        status,
        "Filter cannot be understood",
        "at letter 3",
    )
    assert len(requests) == 1


def test_retry_after_is_honoured_within_reason() -> None:
    handler, _ = in_turn(problem(429, retry_after="7"), problem(503, retry_after="86400"), ok())
    handler2, _ = in_turn(problem(503, retry_after="Fri, 31 Dec 1999 23:59:59 GMT"), ok())
    waits: list[float] = []
    client(handler, waits).models()
    assert waits == [7, 30]
    client(handler2, waits).models()
    assert waits[2] < 1


def test_tries_come_to_an_end() -> None:
    handler, requests = in_turn(*[problem(503, "Server is full")] * 4)
    with pytest.raises(ServerError, match="Server is full"):
        client(handler).models()
    assert len(requests) == 4
    handler, requests = in_turn(*[httpx.ConnectError("refused")] * 4)
    with pytest.raises(TandemError, match=r"http://there:8000: no answer .refused.; is the server running"):
        client(handler).models()
    assert len(requests) == 4
    handler, requests = in_turn(problem(503))
    with pytest.raises(ServerError):
        client(handler, retries=0).models()


def test_a_server_that_had_its_time_is_not_given_more() -> None:
    handler, requests = in_turn(httpx.ReadTimeout("slow"))
    with pytest.raises(TandemError, match="no answer within 30 s"):
        client(handler).models()
    assert len(requests) == 1


def test_a_deletion_is_repeated_only_if_it_cannot_have_begun() -> None:
    handler, requests = in_turn(httpx.ConnectError("refused"), httpx.Response(200, json={"deleted": 1}))
    assert client(handler).delete("x") == 1
    assert len(requests) == 2
    for trouble in (httpx.ReadError("reset"), problem(503), problem(504)):
        handler, requests = in_turn(trouble)
        with pytest.raises(TandemError):
            client(handler).delete(["x"])
        assert len(requests) == 1


def test_answers_that_are_no_problem_documents() -> None:
    no_document = "no document with 'data': is it a Tandem server"
    for answer, kind, says in (
        (httpx.Response(500, text="<h1>Oops</h1>"), ServerError, "Internal Server Error: <h1>Oops</h1>"),
        (httpx.Response(404, json=["x"]), ServerError, "Not Found"),
        (httpx.Response(200, text="hello"), ClientError, no_document),
        (httpx.Response(200, json={"ok": 1}), ClientError, no_document),
        (httpx.Response(307, headers={"location": "http://evil/"}), ServerError, "Temporary Redirect"),
    ):
        handler, requests = in_turn(answer)
        with pytest.raises(kind, match=says):
            client(handler).models()
        assert len(requests) == 1


def test_ready_asks_once_and_never_raises() -> None:
    for answer, ready in (
        (httpx.Response(200), True),
        (problem(503), False),
        (httpx.ConnectError("refused"), False),
        (httpx.ReadTimeout("slow"), False),
    ):
        handler, requests = in_turn(answer)
        assert client(handler).ready() is ready
        assert len(requests) == 1


@pytest.mark.parametrize("url", ["", "there:8000", "ftp://there"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(TandemError, match="expected an address such as"):
        tandem.Client(url)


def test_many_threads_share_a_client() -> None:
    there = client(embeddings)
    shapes: list[tuple[int, ...]] = []
    threads = [threading.Thread(target=lambda: shapes.append(there.embed_texts(["a"] * 40).shape)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shapes == [(40, 2)] * 8
