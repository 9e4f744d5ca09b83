"""The tools through a real client: in this process, and over standard input and output of another."""

import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import skip_without
from support.serving import toy_collection

skip_without("mcp")

import anyio  # noqa: E402
from mcp import Client, StdioServerParameters  # noqa: E402
from mcp.types import jsonrpc_message_adapter  # noqa: E402
from pydantic import ValidationError  # noqa: E402

from tandem.mcp_server import server  # noqa: E402
from tandem.mcp_server.lines import MAX_LINE_BYTES, TOO_LONG, BoundedLines  # noqa: E402
from tandem.mcp_server.toolbox import LOOK_SIDE, Toolbox  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_collection(tmp_path_factory.mktemp("spoken"))


def ask(where: Any, work: Callable[[Client], Awaitable[Any]]) -> Any:
    """What a client finds at a server: one of this process, or one that is started."""

    async def run() -> Any:
        async with Client(where) as client:
            return await work(client)

    return anyio.run(run)


async def _uses(client: Client) -> dict[str, Any]:
    tools = (await client.list_tools()).tools
    listed = await client.call_tool("collections", {})
    found = await client.call_tool("search", {"text": "a cat", "k": 2})
    hit = found.structured_content["hits"][0]
    seen = await client.call_tool("look", {"image": hit["id"], "side": 64})
    wrong = await client.call_tool("look", {"image": "/etc/passwd"})
    untyped = await client.call_tool("search", {"text": "a cat", "k": "many"})
    unknown = await client.call_tool("search", {"text": "a cat", "ofset": 3})
    none = await client.call_tool("collections", {"name": "photos"})
    large = await client.call_tool("look", {"image": hit["id"], "side": 100_000})
    lists = await client.call_tool("classify", {"image": hit["id"], "labels": "cat, dog"})
    write = await client.call_tool("set_caption", {"image": hit["id"], "caption": "mine"})
    added = await client.call_tool("add", {"paths": [hit["path"]]})
    whole = await client.call_tool("look", {"image": hit["path"]})
    return {
        "tools": tools,
        "collections": listed.structured_content,
        "hits": found.structured_content["hits"],
        "seen": seen.content,
        "whole": whole.content[0],
        "errors": [
            (each.is_error, each.content[0].text)
            for each in (wrong, untyped, unknown, none, large, lists, write, added)
        ],
    }


def check(used: dict[str, Any]) -> None:
    assert [tool.name for tool in used["tools"]] == ["collections", "search", "look", "classify", "locate"]
    assert all(tool.annotations.read_only_hint for tool in used["tools"])
    assert used["collections"]["collections"][0]["count"] == 9
    assert len(used["hits"]) == 2
    picture, known = used["seen"]
    assert (picture.type, picture.mime_type) == ("image", "image/jpeg")
    assert max(Image.open(io.BytesIO(base64.b64decode(picture.data))).size) <= 64
    assert json.loads(known.text)["image"] == used["hits"][0]["path"]
    for is_error, text in used["errors"]:
        assert is_error
        assert "\n" not in text
    assert "not an image of the collections" in used["errors"][0][1]
    assert "k:" in used["errors"][1][1]
    assert "search: no argument 'ofset'; it takes text, image, minus, " in used["errors"][2][1]
    assert "did you mean 'offset'?" in used["errors"][2][1]
    assert "collections: no argument 'name'; it takes no arguments" in used["errors"][3][1]
    assert "side: expected 64 to 1,536, got 100,000" in used["errors"][4][1]
    assert "classify: labels: " in used["errors"][5][1]
    assert all("Unknown tool" in text for _, text in used["errors"][6:])  # those that write are not even there
    assert max(Image.open(io.BytesIO(base64.b64decode(used["whole"].data))).size) <= LOOK_SIDE


def test_tools_answer_a_client(photos: Path) -> None:
    toolbox = Toolbox([str(photos)])
    check(ask(server.make(toolbox), _uses))
    toolbox.close()


def test_tools_that_write_are_offered_only_when_allowed(photos: Path) -> None:
    toolbox = Toolbox([str(photos)], allow_writes=True)

    async def names(client: Client) -> list[tuple[str, bool]]:
        return [(tool.name, tool.annotations.read_only_hint) for tool in (await client.list_tools()).tools]

    assert ask(server.make(toolbox), names)[-2:] == [("add", False), ("set_caption", False)]
    toolbox.close()


def test_what_a_tool_says_of_itself_is_said_where_it_is_made(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A further tool that writes is announced as one, whatever its name."""

    def rename() -> dict[str, str]:
        """Rename."""
        return {}

    monkeypatch.setattr(server, "_writing", lambda _: (server._Tool(rename, writes=True),))
    toolbox = Toolbox([str(photos)], allow_writes=True)

    async def last(client: Client) -> tuple[str, bool]:
        tool = (await client.list_tools()).tools[-1]
        return tool.name, tool.annotations.read_only_hint

    assert ask(server.make(toolbox), last) == ("rename", False)
    toolbox.close()


@pytest.mark.parametrize(
    ("line", "answered"),
    [
        ('{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"\\ud800"}}', (9, -32700)),
        ('{"jsonrpc":"2.0","id":"a","method":"x","params":{"a":"\\udcff"}}', ("a", -32700)),
        ('{"jsonrpc":"2.0","id":', (None, -32700)),
        ("[" * 100_000, (None, -32700)),
        ('{"jsonrpc":"2.0","id":true,"a":"\\ud800"}', (None, -32700)),
        ('{"jsonrpc":"2.0","id":9}', (9, -32600)),
        ("[]", (None, -32600)),
        ('{"jsonrpc":"2.0","method":"notifications/x","params":{"a":"\\ud800"}}', None),
        ("  ", None),
    ],
)
def test_a_line_that_is_no_message_is_answered(line: str, answered: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        jsonrpc_message_adapter.validate_json(line, by_name=False)
    answer = server._unreadable(refused.value)
    assert (None if answer is None else (answer.id, answer.error.code)) == answered
    assert answer is None or "\n" not in answer.error.message


@pytest.mark.slow
@pytest.mark.server
def test_unreadable_lines_on_standard_input_end_nothing(photos: Path) -> None:
    begin = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    lines = [
        b"{",
        b'"\xff',
        b"[" * (MAX_LINE_BYTES + 1),
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": begin}).encode(),
        b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"search","arguments":{"text":"\\ud800"}}}',
    ]
    command = [sys.executable, "-m", "tandem", "mcp", str(photos)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answers = []
        for line in lines:
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            answers.append(json.loads(process.stdout.readline()))
        process.stdin.close()
        assert process.wait(60) == 0
    assert [answer["id"] for answer in answers] == [None, None, None, 1, 2]
    assert ["error" in answer for answer in answers] == [True, True, True, False, True]
    assert answers[2]["error"]["message"] == "no message: a line of more than 4,194,304 bytes"


def test_a_line_that_is_too_long_is_skipped_and_never_held() -> None:
    lines = BoundedLines(io.BytesIO(b"one\n" + b"x" * MAX_LINE_BYTES + b"\n" + b"y" * 3 * MAX_LINE_BYTES + b"\ntwo\n"))
    assert [lines.readline() for _ in range(4)] == ["one\n", TOO_LONG, TOO_LONG, "two\n"]
    assert lines.readline() == ""
    assert BoundedLines(io.BytesIO(b"x" * (MAX_LINE_BYTES + 5))).readline() == TOO_LONG


@pytest.mark.slow
@pytest.mark.server
def test_the_command_speaks_on_standard_output_and_nothing_else_does(photos: Path) -> None:
    arguments = ["-m", "tandem", "mcp", str(photos)]
    check(ask(StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ)), _uses))


def test_a_body_over_http_is_bounded(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    monkeypatch.setitem(server.HTTP, "max_request_body_size", 1000)  # of the bound itself, a test would be slow
    toolbox = Toolbox([str(photos)])
    made = server.make(toolbox)
    app = made.streamable_http_app(**server.HTTP)

    async def statuses() -> list[int]:
        headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        async with (
            made.session_manager.run(),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8765") as client,
        ):
            return [(await client.post("/mcp", content=b" " * n, headers=headers)).status_code for n in (900, 1100)]

    assert anyio.run(statuses) == [400, 413]
    toolbox.close()
