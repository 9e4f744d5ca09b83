"""The limits and permissions of a server, as plain values."""

from dataclasses import dataclass
from pathlib import Path

from tandem.defaults import BATCH_SIZE
from tandem.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Settings:
    """The defaults suit one machine that also runs other programs."""

    host: str = "127.0.0.1"
    port: int = 8000
    allow_hosts: tuple[str, ...] = ()  # further host names that it accepts; see `hosts`
    keys_file: Path | None = None
    allow_fetch: tuple[str, ...] = ()  # hosts whose images may be fetched
    uploads: Path | None = None  # where originals of added images are stored; None: in each collection's folder
    read_only: bool = False  # images can be neither added nor deleted

    max_body_bytes: int = 32 * 2**20  # of a request
    max_bodies_bytes: int = 256 * 2**20  # of all requests in flight; a single one always fits
    max_pixels: int = 64_000_000  # of an image
    max_batch: int = 256  # images, texts or labels of a request
    max_hits: int = 1000  # of a page of hits
    max_offset: int = 100_000
    max_text_characters: int = 10_000  # of a text: the tokenizer reads all of it
    concurrency: int = 256  # requests in flight; further ones get 503
    max_connections: int = 1000  # open ones, idle ones included
    max_header_bytes: int = 64 * 2**10  # of a request, before its body

    batch_size: int = BATCH_SIZE  # items the encoder computes at once
    batch_wait_s: float = 0.003  # how long the first item of a batch waits for others
    image_queue: int = 512
    text_queue: int = 2048
    queue_wait_s: float = 5.0  # longest wait for the encoder, estimated from the recent rate; beyond it 503 at once
    # More threads would mostly wait for each other: 16 clients got 230 searches per second with four, 310 with two.
    store_threads: int = 2  # for searches in local collections
    scan_threads: int = 2  # for scans of all images, so that searches need not wait for them
    server_threads: int = 16  # that wait for remote vector databases
    store_queue: int = 256

    deadline_s: float = 30.0  # of a request, from its last byte to its answer
    body_timeout_s: float = 30.0  # for a request's headers to arrive, and then for its body
    ready_deadline_s: float = 5.0
    shutdown_s: float = 30.0  # how long requests in flight may take to finish

    http: str = "auto"  # uvicorn's implementation: httptools, h11, or auto for the first that is installed

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            least = 0 if name in ("port", "batch_wait_s") else 1e-3 if isinstance(value, float) else 1
            if not value >= least:
                raise ConfigError(f"{name}: expected at least {least:g}, got {value}")
        if self.http not in ("auto", "httptools", "h11"):
            raise ConfigError(f"http: expected auto, httptools or h11, got {self.http!r}")
        if self.port > 65535:
            raise ConfigError(f"port: expected 0..65535, got {self.port}")

    @property
    def on_loopback(self) -> bool:
        return self.host in LOOPBACK or self.host.startswith("127.")
