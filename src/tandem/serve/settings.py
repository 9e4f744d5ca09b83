"""The limits and permissions of a server, as plain values."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tandem import fields
from tandem.defaults import BATCH_SIZE
from tandem.fields import Positive, Range

LOOPBACK = ("127.0.0.1", "::1", "localhost")

Seconds = Annotated[float, Range(least=1e-3)]


@dataclass(frozen=True)
class Settings:
    """The defaults suit one machine that also runs other programs."""

    host: str = "127.0.0.1"
    port: Annotated[int, Range(least=0, most=65535)] = 8000  # 0: any that is free
    allow_hosts: tuple[str, ...] = ()  # further host names that it accepts; see `hosts`
    keys_file: Path | None = None
    allow_shared_keys: bool = False  # a key file that other users may write to: some file systems keep no permissions
    allow_fetch: tuple[str, ...] = ()  # hosts whose images may be fetched
    uploads: Path | None = None  # where originals of added images are stored; None: in each collection's folder
    read_only: bool = False  # images can be neither added nor deleted
    heads: tuple[Path, ...] = ()  # .tandem-head files that requests may name
    policies: tuple[str, ...] = ()  # files of policies, or names of those that ship, that requests may name
    upload_images: Positive = 10_000  # that one key may add
    upload_bytes: Positive = 2 * 2**30  # of these
    uploads_bytes: Positive = 20 * 2**30  # of the originals of all added images of a collection
    corrections: Path | None = None  # the folder where images with their right labels are kept; None: they are not

    max_body_bytes: Positive = 32 * 2**20  # of a request
    max_bodies_bytes: Positive = 256 * 2**20  # of all requests in flight; a single one always fits
    max_pixels: Positive = 64_000_000  # of an image; decoding it may take 6 bytes for each
    slow_formats: bool = (
        False  # QOI, JPEG 2000, plain PPM and run-length encoded BMP are read, in processes of their own
    )
    max_batch: Positive = 256  # images, texts or labels of a request
    max_hits: Positive = 1000  # of a page of hits
    max_offset: Positive = 100_000
    max_text_characters: Positive = 10_000  # of a text, in its template: the tokenizer reads all of it
    # Of all texts of a request together; one outside ASCII counts as ten, which is what cleaning it costs at worst.
    max_request_characters: Positive = 400_000
    concurrency: Positive = 256  # requests in flight, half of them of one client at most; further ones get 503
    client_rate: Positive = 500  # requests per second of one client: a key, or an address without one
    max_connections: Positive = 1000  # open ones, idle ones included
    max_header_bytes: Positive = 64 * 2**10  # of a request, before its body

    batch_size: Positive = BATCH_SIZE  # items the encoder computes at once
    batch_wait_s: Annotated[float, Range(least=0)] = 0.003  # how long a batch waits for others; see `Batcher`
    image_queue: Positive = 512
    text_queue: Positive = 2048
    queue_wait_s: Seconds = 5.0  # longest wait for the encoder, estimated from the recent rate; beyond it 503 at once
    # More threads would mostly wait for each other: 16 clients got 230 searches per second with four, 310 with two.
    store_threads: Positive = 2  # for searches in local collections
    scan_threads: Positive = 2  # for scans of all images, so that searches need not wait for them
    server_threads: Positive = 16  # that wait for remote vector databases
    store_queue: Positive = 256

    deadline_s: Seconds = 30.0  # of a request, from its last byte to its answer
    body_timeout_s: Seconds = 30.0  # for a request's headers to arrive, and then for its body
    ready_deadline_s: Seconds = 5.0
    shutdown_s: Seconds = 30.0  # how long requests in flight may take to finish

    # Of uvicorn; auto: the first that is installed.
    http: Literal["auto", "httptools", "h11"] = "auto"

    def __post_init__(self) -> None:
        fields.check(self)

    @property
    def max_texts(self) -> int:
        """Of a request: labels in all their templates."""
        return 16 * self.max_batch

    @property
    def on_loopback(self) -> bool:
        return self.host in LOOPBACK or self.host.startswith("127.")
