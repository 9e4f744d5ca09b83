"""`tandem serve`: collections over HTTP, with a web page, until Ctrl-C."""

import argparse

from tandem.cli import terminal
from tandem.cli.arguments import Parser, describe, positive
from tandem.cli.exit_codes import DONE
from tandem.cli.options.model import add_model, loading
from tandem.defaults import ADDRESS_FORMS, POLICIES
from tandem.errors import TandemError
from tandem.files import user_path
from tandem.serve.settings import Settings

DEFAULTS = Settings()
MB, GB, MEGAPIXEL = 2**20, 2**30, 1_000_000


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Serve collections: a web page to search and explore them, and an HTTP interface for programs (described at "
        "/docs). Only this machine can connect, unless --host says otherwise.",
        "tandem serve photos.tandem",
        "tandem serve photos.tandem --head animals.tandem-head --corrections corrections",
        "tandem serve photos.tandem milvus://localhost:19530/archive --host 0.0.0.0 --api-key-file keys.txt",
    )
    parser.add_argument(
        "collections",
        nargs="*",
        metavar="COLLECTION",
        help=f"{ADDRESS_FORMS}; the first answers requests that name none; without any, only the model is served",
    )
    parser.add_argument("--host", default=DEFAULTS.host, metavar="H", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=DEFAULTS.port, metavar="N", help="port; 0 picks a free one (%(default)s)"
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another host name that requests may use, for example a proxy's; * for any. Always allowed: localhost and "
        "127.*; with a wider --host also IP addresses, this machine's name, and names without a dot",
    )
    parser.add_argument(
        "--api-key-file",
        metavar="F",
        help="accepted API keys of 16 characters or more, one per line; read again when it changes, and on SIGHUP",
    )
    parser.add_argument(
        "--allow-shared-key-file",
        action="store_true",
        help="take an --api-key-file that other users may write to: for file systems that keep no permissions (vfat, "
        "CIFS, drives of Windows)",
    )
    parser.add_argument(
        "--allow-fetch",
        action="append",
        default=[],
        metavar="HOST",
        help="a host from which images may be fetched by URL; none by default",
    )
    parser.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="F",
        help="offer a .tandem-head file that `tandem learn` wrote: requests and the page name it without the ending",
    )
    parser.add_argument(
        "--policy",
        action="append",
        default=[],
        metavar="P",
        help="offer a policy for /v1/moderate: a file in TOML, with the fit beside it, or one that ships: "
        + ", ".join(POLICIES),
    )
    parser.add_argument(
        "--corrections",
        metavar="DIR",
        help="keep photos that are given their right label on the page in this folder, a folder for each label, as "
        "`tandem learn DIR` reads it; not kept by default",
    )
    parser.add_argument(
        "--read-only",
        action="store_true",
        help="refuse to add or remove images of collections; with --corrections, corrections are kept all the same",
    )
    parser.add_argument(
        "--uploads", metavar="DIR", help="folder for the files of added images (default: in the collection)"
    )
    parser.add_argument("--access-log", action="store_true", help="log every request to standard error")
    limits = parser.add_argument_group("limits")
    for option, default, what in (
        ("--max-body-mb", DEFAULTS.max_body_bytes // MB, "of a request"),
        (
            "--max-megapixels",
            DEFAULTS.max_pixels // MEGAPIXEL,
            "of an image; decoding one may take 6 MB of memory a megapixel",
        ),
        ("--max-batch", DEFAULTS.max_batch, "items per request"),
        ("--max-requests", DEFAULTS.concurrency, "requests in flight"),
        ("--max-queue", DEFAULTS.image_queue, "images waiting"),
        ("--client-rate", DEFAULTS.client_rate, "requests per second of one client: a key, or an address without one"),
        ("--upload-images", DEFAULTS.upload_images, "images that one key may add"),
        ("--upload-mb", DEFAULTS.upload_bytes // MB, "of the images that one key may add"),
        ("--uploads-gb", DEFAULTS.uploads_bytes // GB, "of all added images of a collection"),
    ):
        limits.add_argument(option, type=positive, default=default, metavar="N", help=f"{what} (%(default)s)")
    limits.add_argument(
        "--deadline",
        type=float,
        default=DEFAULTS.deadline_s,
        metavar="S",
        help="seconds to answer a request (%(default)g)",
    )
    limits.add_argument(
        "--slow-formats",
        action="store_true",
        help="read images in QOI, JPEG 2000, plain PPM and run-length encoded BMP, whose decoding takes seconds",
    )
    batches = parser.add_argument_group("batches")
    batches.add_argument(
        "--batch-size",
        type=positive,
        default=DEFAULTS.batch_size,
        metavar="N",
        help="items encoded at once (%(default)s)",
    )
    batches.add_argument(
        "--batch-wait-ms",
        type=float,
        default=DEFAULTS.batch_wait_s * 1000,
        metavar="T",
        help="how long the first item of a batch waits for others (%(default)g); fewer than 8 wait up to 12 ms for "
        "images that are being decoded, unless T is 0",
    )
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.cli import known_collections
    from tandem.serve.run import serve

    uploads = user_path(arguments.uploads).resolve() if arguments.uploads else None
    if uploads is not None and uploads.exists() and not uploads.is_dir():
        raise TandemError(f"--uploads {arguments.uploads}: expected a folder, got a file")
    texts_per_image = DEFAULTS.text_queue // DEFAULTS.image_queue
    settings = Settings(
        host=arguments.host,
        port=arguments.port,
        allow_hosts=tuple(arguments.allow_host),
        keys_file=user_path(arguments.api_key_file) if arguments.api_key_file else None,
        allow_shared_keys=arguments.allow_shared_key_file,
        allow_fetch=tuple(arguments.allow_fetch),
        uploads=uploads,
        read_only=arguments.read_only,
        heads=tuple(user_path(each) for each in arguments.head),
        policies=tuple(arguments.policy),
        corrections=user_path(arguments.corrections).resolve() if arguments.corrections else None,
        max_body_bytes=arguments.max_body_mb * MB,
        max_pixels=arguments.max_megapixels * MEGAPIXEL,
        slow_formats=arguments.slow_formats,
        max_batch=arguments.max_batch,
        concurrency=arguments.max_requests,
        image_queue=arguments.max_queue,
        text_queue=texts_per_image * arguments.max_queue,
        client_rate=arguments.client_rate,
        upload_images=arguments.upload_images,
        upload_bytes=arguments.upload_mb * MB,
        uploads_bytes=arguments.uploads_gb * GB,
        deadline_s=arguments.deadline,
        batch_size=arguments.batch_size,
        batch_wait_s=arguments.batch_wait_ms / 1000,
    )
    serve(
        arguments.collections,
        settings,
        model=arguments.model,
        loading=loading(arguments),
        say=terminal.echo,
        access_log=arguments.access_log,
        opened=known_collections.remember,
    )
    return DONE
