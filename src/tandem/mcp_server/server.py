"""The tools of a `Toolbox` over the Model Context Protocol. The only module that imports the `mcp` package.

Descriptions here are what assistants read. What goes wrong is a tool error of one line; nothing but the protocol is
written to standard output.
"""

import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Annotated, Any, ParamSpec, TypeVar, cast

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp.types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError, ToolAnnotations
from pydantic import Field, ValidationError

from tandem import __version__
from tandem.defaults import HITS, LOCATED_TEXTS, MOMENTS
from tandem.errors import TandemError, did_you_mean
from tandem.mcp_server.lines import MAX_LINE_BYTES, TOO_LONG, standard_input
from tandem.mcp_server.toolbox import LOOK_SIDE, MAX_HITS, MAX_LABELS, MAX_SIDE, Toolbox

INSTRUCTIONS = (
    "Photos and films of the user, searchable by what they show. Call `collections` first. `search` finds images by a "
    "text or by another image, and says when nothing matches well; `look` shows one of them. Images are named by "
    "the id or the path of a hit. A hit with `time` is a moment of a film, that many seconds from its beginning. "
    "Words for what is visible find more than names, dates or moods: use `where` for dates, places and paths."
)

_Call = ParamSpec("_Call")
_Result = TypeVar("_Result")

ImageName = Annotated[
    str,
    Field(
        description="the id of an image, as search returned it; or its path, or its file's name where only one has it; "
        "or the path of a file in a folder that was opened"
    ),
]
CollectionName = Annotated[str | None, Field(description="a name from `collections`; the first one if left out")]
Where = Annotated[
    str | None,
    Field(description="a filter: width > 1000 and taken >= '2023-06' and path like '%Italy%'; of films: time > 60"),
]


@dataclass(frozen=True)
class _Tool:
    """What is offered to assistants, and what they are told about its effects."""

    call: Callable[..., Any]
    writes: bool = False
    is_structured: bool = True  # the answer is one JSON object

    @property
    def hints(self) -> ToolAnnotations:
        return ToolAnnotations(read_only_hint=not self.writes, destructive_hint=False, open_world_hint=False)


class _Server(MCPServer[Any]):
    """Arguments of the wrong type are one line, too; unknown ones are refused instead of dropped; and what cannot be
    read on standard input is answered.
    """

    taken: dict[str, list[str]]  # by each tool, the names of its arguments

    async def run_stdio_async(self) -> None:
        """As the package's, which drops lines that are no messages: whoever sent one would wait for ever."""
        server = self._lowlevel_server
        with standard_input() as lines:
            await self._answer(server, anyio.wrap_file(cast(IO[str], lines)))  # only lines are asked for

    async def _answer(self, server: Any, lines: Any) -> None:
        async with stdio_server(lines) as (heard, answers):
            send, understood = anyio.create_memory_object_stream[SessionMessage | Exception](0)

            async def listen() -> None:
                async with send:
                    async for item in heard:
                        if not isinstance(item, Exception):
                            await send.send(item)
                        elif (answer := _unreadable(item)) is not None:
                            await answers.send(SessionMessage(answer))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen)
                await server.run(understood, answers, server.create_initialization_options())
                tasks.cancel_scope.cancel()

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None) -> Any:
        known = self.taken.get(name, list(arguments))
        unknown = next((each for each in arguments if each not in known), None)
        if unknown is not None:
            takes = f"it takes {', '.join(known)}" if known else "it takes no arguments"
            raise ToolError(f"{name}: no argument {unknown[:100]!r}; {takes}{did_you_mean(unknown, known)}")
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            wrong = error.__cause__
            if not isinstance(wrong, ValidationError):
                raise
            first = wrong.errors()[0]
            where = ".".join(map(str, first["loc"])) or "arguments"
            raise ToolError(f"{name}: {where}: {first['msg']}") from None


def _unreadable(error: Exception) -> JSONRPCError | None:
    """The answer to a line that is no message: to its id, where it has one. None for empty lines and notifications."""
    first: Any = error.errors()[0] if isinstance(error, ValidationError) else {}
    document = given = first.get("input")
    is_json = first.get("type") != "json_invalid"
    if isinstance(given, str) and not is_json:
        if not given.strip():
            return None
        try:
            document = json.loads(given)  # which takes halves of surrogate pairs
        except (ValueError, RecursionError):
            document = None
    identifier = None
    if isinstance(document, dict):
        identifier = document.get("id")
        if "method" in document and "id" not in document:
            return None
        if isinstance(identifier, bool) or not isinstance(identifier, int | str):
            identifier = None
    code = INVALID_REQUEST if is_json else PARSE_ERROR
    why = TOO_LONG if given == TOO_LONG else first.get("msg", type(error).__name__)
    said = ErrorData(code=code, message=f"no message: {why}")
    return JSONRPCError(jsonrpc="2.0", id=identifier, error=said)


def make(toolbox: Toolbox) -> MCPServer[Any]:
    """A server with the tools that this toolbox allows."""
    server = _Server(
        "tandem", title="Tandem", instructions=INSTRUCTIONS, version=__version__, log_level="ERROR"
    )  # fmt: skip
    server.taken = {}
    for tool in (*_reading(toolbox), *(_writing(toolbox) if toolbox.allow_writes else ())):
        server.add_tool(_in_one_line(tool.call), annotations=tool.hints, structured_output=tool.is_structured)
        server.taken[tool.call.__name__] = list(inspect.signature(tool.call).parameters)
    return server


def _in_one_line(function: Callable[_Call, _Result]) -> Callable[_Call, _Result]:
    """The same, with our errors as the protocol's."""

    @functools.wraps(function)
    def call(*args: _Call.args, **named: _Call.kwargs) -> _Result:
        try:
            return function(*args, **named)
        except TandemError as error:
            raise ToolError(" ".join(str(error).split())) from None

    return call


def _reading(toolbox: Toolbox) -> tuple[_Tool, ...]:
    def collections() -> dict[str, Any]:
        """List the collections: names, how many images, what filters can name, and which folders were opened."""
        return toolbox.collections()

    def search(
        text: Annotated[str | None, Field(description="what the images show, in plain words")] = None,
        image: Annotated[
            str | None, Field(description="find what resembles this image: its id, or its path; may go with a text")
        ] = None,
        minus: Annotated[str | None, Field(description="less of what this text describes")] = None,
        collection: CollectionName = None,
        where: Where = None,
        k: Annotated[int, Field(description=f"how many, 1 to {MAX_HITS}")] = HITS,
        offset: Annotated[int, Field(description="hits to skip, for the next page")] = 0,
        moments: Annotated[int, Field(description="of one film, how many before everything else; 0 for all")] = MOMENTS,
    ) -> dict[str, Any]:
        """Find images by what they show, nearest first. `relevance` is the probability that a hit matches; null where
        that cannot be told, and then only the order means something. Look at the best hits before answering."""
        return toolbox.search(text, image, minus, collection, where, k, offset, moments)

    def look(
        image: ImageName,
        collection: CollectionName = None,
        side: Annotated[int, Field(description=f"pixels of the longer side, 64 to {MAX_SIDE}")] = LOOK_SIDE,
    ) -> list[Any]:
        """See an image, made smaller, with what is known of it. Of a moment of a film: that frame. `of_thumbnail`: its
        file is gone or in an archive, and only the small image of the collection is left."""
        content, known = toolbox.look(image, collection, side)
        return [Image(data=content, format="jpeg"), json.dumps(known, ensure_ascii=False)]

    def classify(
        image: ImageName,
        labels: Annotated[list[str], Field(description=f"1 to {MAX_LABELS} names, as for: cat, dog, empty street")],
        collection: CollectionName = None,
        independent: Annotated[
            bool, Field(description="each label by itself: several may be true, or none (needs a calibrated model)")
        ] = False,
    ) -> dict[str, Any]:
        """Which label fits an image: probabilities that add up to 1, for these labels and no others."""
        return toolbox.classify(image, labels, collection, independent)

    def locate(
        image: ImageName,
        texts: Annotated[list[str], Field(description=f"1 to {LOCATED_TEXTS} things to find, as: the red ball")],
        collection: CollectionName = None,
    ) -> dict[str, Any]:
        """Where things are in an image: a point and boxes in pixels of the whole, or that they are not there."""
        return toolbox.locate(image, texts, collection)

    return _Tool(collections), _Tool(search), _Tool(look, is_structured=False), _Tool(classify), _Tool(locate)


def _writing(toolbox: Toolbox) -> tuple[_Tool, ...]:
    def add(
        paths: Annotated[
            list[str], Field(description="photos, films, or folders of them, in a folder that was opened")
        ],
        collection: CollectionName = None,
    ) -> dict[str, Any]:
        """Add photos and films to a collection. Files are not changed; those that are in it already are skipped."""
        return toolbox.add(paths, collection)

    def set_caption(
        image: ImageName,
        caption: Annotated[str, Field(description="one line for each caption; empty to take it away")],
        collection: CollectionName = None,
    ) -> dict[str, Any]:
        """Write the caption of an image into the collection, where filters find it. The file is not changed."""
        return toolbox.set_caption(image, caption, collection)

    return _Tool(add, writes=True), _Tool(set_caption, writes=True)


HTTP: dict[str, Any] = {  # how requests are answered; a body is as long as a line on standard input
    "stateless_http": True,
    "json_response": True,
    "max_request_body_size": MAX_LINE_BYTES,
}


def serve_stdio(toolbox: Toolbox) -> None:
    """Answer on standard input and output until the input ends."""
    make(toolbox).run("stdio")


def serve_http(toolbox: Toolbox, port: int) -> None:
    """Answer over HTTP at /mcp, on this machine only: requests under other names are refused by the `mcp` package."""
    make(toolbox).run("streamable-http", host="127.0.0.1", port=port, **HTTP)
