"""`tandem mcp`: collections as tools of an assistant, over the Model Context Protocol."""

import argparse
import importlib.util
import os
import sys

from tandem.cli import terminal
from tandem.cli.arguments import Parser, describe
from tandem.cli.exit_codes import DONE
from tandem.cli.options.collection import complete_collections
from tandem.cli.options.model import add_model, loading
from tandem.defaults import ADDRESS_FORMS
from tandem.errors import MissingExtraError


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Give collections to an assistant as tools: search, look at a picture, classify, locate. It speaks the Model "
        "Context Protocol on standard input and output, and is started by the assistant: --config prints what its "
        "configuration needs. It only reads, and shows only pictures of the collections, unless told otherwise.",
        "tandem mcp photos.tandem --config",
        "tandem mcp photos.tandem films.tandem",
        "tandem mcp photos.tandem --files ~/Pictures --allow-writes",
    )
    complete_collections(
        parser.add_argument(
            "collections", nargs="+", metavar="C", help=f"collections, which must exist: {ADDRESS_FORMS}"
        )
    )
    parser.add_argument(
        "--files",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder whose photos the assistant may name by path; repeatable",
    )
    parser.add_argument(
        "--allow-writes",
        action="store_true",
        help="let it add photos from the --files folders, and write captions into the collections; files never change",
    )
    parser.add_argument(
        "--http", type=_port, metavar="PORT", help="answer at http://127.0.0.1:PORT/mcp instead, on this machine only"
    )
    parser.add_argument("--config", action="store_true", help="print the configuration that starts it, and exit")
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.mcp_server.toolbox import Toolbox

    if arguments.allow_writes and not arguments.files:
        terminal.echo("without --files DIR, --allow-writes is for captions only: no file may be named")
    toolbox = Toolbox(
        arguments.collections,
        files=arguments.files,
        allow_writes=arguments.allow_writes,
        model=arguments.model,
        loading=loading(arguments),
    )
    try:
        if arguments.config:
            terminal.print_json(configuration(arguments))
            return DONE
        if importlib.util.find_spec("mcp") is None:
            raise MissingExtraError("mcp", "mcp", "speaking to assistants")
        from tandem.mcp_server import server

        if arguments.http is not None:
            terminal.echo(f"tools at http://127.0.0.1:{arguments.http}/mcp; Ctrl-C ends")
            server.serve_http(toolbox, arguments.http)
        else:
            if sys.stdin.isatty():
                terminal.echo("waiting for an assistant on standard input; --config prints what starts it; Ctrl-D ends")
            server.serve_stdio(toolbox)
    finally:
        toolbox.close()
    return DONE


def configuration(arguments: argparse.Namespace) -> dict[str, object]:
    """What assistants want in their configuration: this command, with absolute paths."""
    named = [os.path.abspath(each) if os.path.exists(each) else each for each in arguments.collections]
    options = [part for folder in arguments.files for part in ("--files", os.path.abspath(folder))]
    options += ["--allow-writes"] if arguments.allow_writes else []
    if arguments.model is not None:
        options += ["--model", os.path.abspath(arguments.model) if os.path.exists(arguments.model) else arguments.model]
    for name, value in loading(arguments).items():
        options += [f"--{name}", value] if value not in (None, "auto") else []
    return {"mcpServers": {"tandem": {"command": sys.executable, "args": ["-m", "tandem", "mcp", *named, *options]}}}


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port, 1 to 65535, got {text!r}")
    return int(text)
