"""`tandem serve`: collections over HTTP, with a web page, until Ctrl-C."""

import argparse
from pathlib import Path

from tandem.cli import DONE, screen
from tandem.cli.inputs import loading
from tandem.serve.run import serve
from tandem.serve.settings import Settings


def run(arguments: argparse.Namespace) -> int:
    settings = Settings(
        host=arguments.host,
        port=arguments.port,
        allow_hosts=tuple(arguments.allow_host),
        keys_file=Path(arguments.api_key_file).expanduser() if arguments.api_key_file else None,
        allow_fetch=tuple(arguments.allow_fetch),
        uploads=Path(arguments.uploads).expanduser().resolve() if arguments.uploads else None,
        read_only=arguments.read_only,
        max_body_bytes=arguments.max_body_mb * 2**20,
        max_pixels=arguments.max_megapixels * 1_000_000,
        max_batch=arguments.max_batch,
        concurrency=arguments.max_requests,
        picture_queue=arguments.max_queue,
        text_queue=4 * arguments.max_queue,
        deadline_s=arguments.deadline,
        batch_size=arguments.batch_size,
        batch_wait_s=arguments.batch_wait_ms / 1000,
    )
    serve(
        arguments.collections,
        settings,
        model=arguments.model,
        loading=loading(arguments),
        say=screen.say,
        access_log=arguments.access_log,
    )
    return DONE
