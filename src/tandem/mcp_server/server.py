"""The tools of a `Toolbox` over the Model Context Protocol. The only module that imports the `mcp` package.

Descriptions here are what assistants read. What goes wrong is a tool error of one line; nothing but the protocol is
written to standard output.
"""

import functools
import json
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field, ValidationError

from tandem import __version__
from tandem.errors import TandemError
from tandem.mcp_server.toolbox import LOOK_SIDE, MAX_HITS, MAX_LABELS, MAX_SIDE, Toolbox

INSTRUCTIONS = (
    "Photos and films of the user, searchable by what they show. Call `collections` first. `search` finds pictures by "
    "words or by another picture, and says when nothing matches well; `look` shows one of them. Pictures are named by "
    "the id or the path of a hit. A hit with `time` is a moment of a film, that many seconds from its beginning. "
    "Words for what is visible find more than names, dates or moods: use `where` for dates, places and paths."
)

_Call = ParamSpec("_Call")
_Result = TypeVar("_Result")

Picture = Annotated[
    str, Field(description="the id or the path of a picture of a collection; or of a file in a folder that was opened")
]
CollectionName = Annotated[str | None, Field(description="a name from `collections`; the first one if left out")]
Where = Annotated[
    str | None,
    Field(description="a filter: width > 1000 and taken >= '2023-06' and path like '%Italy%'; of films: time > 60"),
]


class _Server(MCPServer[Any]):
    """Arguments of the wrong type are one line, too."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None) -> Any:
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            wrong = error.__cause__
            if not isinstance(wrong, ValidationError):
                raise
            first = wrong.errors()[0]
            where = ".".join(map(str, first["loc"])) or "arguments"
            raise ToolError(f"{name}: {where}: {first['msg']}") from None


def make(toolbox: Toolbox) -> MCPServer[Any]:
    """A server with the tools that this toolbox allows."""
    server = _Server(
        "tandem", title="Tandem", instructions=INSTRUCTIONS, version=__version__, log_level="ERROR"
    )  # fmt: skip
    for tool in (*_reading(toolbox), *(_writing(toolbox) if toolbox.allow_writes else ())):
        reads = tool.__name__ not in ("add", "set_caption")
        hints = ToolAnnotations(read_only_hint=reads, destructive_hint=False, open_world_hint=False)
        server.add_tool(_in_one_line(tool), annotations=hints, structured_output=tool.__name__ != "look")
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


def _reading(toolbox: Toolbox) -> tuple[Callable[..., Any], ...]:
    def collections() -> dict[str, Any]:
        """List the collections: names, how many pictures, what filters can name, and which folders were opened."""
        return toolbox.collections()

    def search(
        words: Annotated[str | None, Field(description="what the pictures show, in plain words")] = None,
        picture: Annotated[
            str | None, Field(description="find what resembles this picture: its id, or its path; may go with words")
        ] = None,
        without: Annotated[str | None, Field(description="less of what these words describe")] = None,
        collection: CollectionName = None,
        where: Where = None,
        limit: Annotated[int, Field(description=f"1 to {MAX_HITS}")] = 10,
        offset: Annotated[int, Field(description="hits to skip, for the next page")] = 0,
        moments: Annotated[int, Field(description="of one film, how many before everything else; 0 for all")] = 1,
    ) -> dict[str, Any]:
        """Find pictures by what they show, nearest first. `relevance` is the probability that a hit matches; null where
        that cannot be told, and then only the order means something. Look at the best hits before answering."""
        return toolbox.search(words, picture, without, collection, where, limit, offset, moments)

    def look(
        picture: Picture,
        collection: CollectionName = None,
        side: Annotated[int, Field(description=f"pixels of the longer side, 64 to {MAX_SIDE}")] = LOOK_SIDE,
    ) -> list[Any]:
        """See a picture, made smaller, with what is known of it. Of a moment of a film: that frame."""
        content, known = toolbox.look(picture, collection, side)
        return [Image(data=content, format="jpeg"), json.dumps(known, ensure_ascii=False)]

    def classify(
        picture: Picture,
        labels: Annotated[list[str], Field(description=f"1 to {MAX_LABELS} names, as for: cat, dog, empty street")],
        collection: CollectionName = None,
        independent: Annotated[
            bool, Field(description="each label by itself: several may be true, or none (needs a calibrated model)")
        ] = False,
    ) -> dict[str, Any]:
        """Which label fits a picture: probabilities that add up to 1, for these labels and no others."""
        return toolbox.classify(picture, labels, collection, independent)

    def locate(
        picture: Picture,
        words: Annotated[list[str], Field(description="1 to 16 things to find, as for: the red ball")],
        collection: CollectionName = None,
    ) -> dict[str, Any]:
        """Where things are in a picture: a point and boxes in pixels of the whole, or that they are not there."""
        return toolbox.locate(picture, words, collection)

    return collections, search, look, classify, locate


def _writing(toolbox: Toolbox) -> tuple[Callable[..., Any], ...]:
    def add(
        paths: Annotated[
            list[str], Field(description="photos, films, or folders of them, in a folder that was opened")
        ],
        collection: CollectionName = None,
    ) -> dict[str, Any]:
        """Add photos and films to a collection. Files are not changed; those that are in it already are skipped."""
        return toolbox.add(paths, collection)

    def set_caption(
        picture: Picture,
        caption: Annotated[str, Field(description="one line for each caption; empty to take it away")],
        collection: CollectionName = None,
    ) -> dict[str, Any]:
        """Write the caption of a picture into the collection, where filters find it. The file is not changed."""
        return toolbox.set_caption(picture, caption, collection)

    return add, set_caption


def serve_stdio(toolbox: Toolbox) -> None:
    """Answer on standard input and output until the input ends."""
    make(toolbox).run("stdio")


def serve_http(toolbox: Toolbox, port: int) -> None:
    """Answer over HTTP at /mcp, on this machine only: requests under other names are refused by the `mcp` package."""
    make(toolbox).run("streamable-http", host="127.0.0.1", port=port, stateless_http=True, json_response=True)
