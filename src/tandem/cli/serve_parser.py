"""The arguments of `tandem serve`. Knows nothing of how it is done."""

from tandem.cli.parser import Commands, command, model_options, positive


def add_serve(commands: Commands) -> None:
    """`serve`."""
    parser = command(
        commands,
        "serve",
        "answer over HTTP, with a web page",
        "Serve collections: a web page to search and explore them, and an interface for programs (described at /docs). "
        "Reachable from this machine only, unless --host says otherwise.",
        "tandem serve photos.tandem",
        "tandem serve photos.tandem milvus://localhost:19530/archive --host 0.0.0.0 --api-key-file keys.txt",
    )
    parser.add_argument(
        "collections",
        nargs="*",
        metavar="COLLECTION",
        help="a folder, milvus://host:19530/name, or https://... (Zilliz); the first one answers requests that name "
        "none; without any, only the model is served",
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="port; 0 takes a free one (8000)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name by which browsers and others may ask, for example that of a proxy in front; may be given "
        "several times; * for any. Without it: localhost and 127.*; with a wider --host also addresses of numbers, "
        "this machine's name, and names without a dot",
    )
    parser.add_argument("--api-key-file", metavar="F", help="keys that are asked for, one a line; read again on change")
    parser.add_argument(
        "--allow-fetch",
        action="append",
        default=[],
        metavar="HOST",
        help="a host whose pictures may be fetched by address; may be given several times; none when left out",
    )
    parser.add_argument("--read-only", action="store_true", help="refuse to add or remove pictures")
    parser.add_argument("--uploads", metavar="DIR", help="where added pictures are kept; in the collection if left out")
    parser.add_argument("--access-log", action="store_true", help="a line for every request on standard error")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-body-mb", type=positive, default=32, metavar="N", help="of a request (32)")
    limits.add_argument("--max-megapixels", type=positive, default=64, metavar="N", help="of a picture (64)")
    limits.add_argument("--max-batch", type=positive, default=256, metavar="N", help="items of a request (256)")
    limits.add_argument("--max-requests", type=positive, default=256, metavar="N", help="under way at once (256)")
    limits.add_argument("--max-queue", type=positive, default=512, metavar="N", help="pictures that may wait (512)")
    limits.add_argument("--deadline", type=float, default=30.0, metavar="S", help="seconds to answer a request (30)")
    batches = parser.add_argument_group("batches")
    batches.add_argument("--batch-size", type=positive, default=32, metavar="N", help="items encoded at once (32)")
    batches.add_argument(
        "--batch-wait-ms", type=float, default=3.0, metavar="T", help="how long a first item waits for others (3)"
    )
    model_options(parser)
