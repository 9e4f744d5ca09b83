"""What a server may do and how much of it at a time. Plain values; whoever starts it fills them in."""

from dataclasses import dataclass
from pathlib import Path

from tandem.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Settings:
    """The defaults suit one machine on which other programs run as well."""

    host: str = "127.0.0.1"
    port: int = 8000
    allow_hosts: tuple[str, ...] = ()  # further names by which it may be asked; see `hosts`
    keys_file: Path | None = None
    allow_fetch: tuple[str, ...] = ()  # hosts whose pictures may be fetched
    uploads: Path | None = None  # where added originals are kept; None: `uploads` beside each collection's data
    read_only: bool = False  # no picture is added or taken out

    max_body_bytes: int = 32 * 2**20  # of a request
    max_bodies_bytes: int = 256 * 2**20  # of all requests under way; one that is alone always fits
    max_pixels: int = 64_000_000  # of a picture
    max_batch: int = 256  # pictures, sentences or labels of a request
    max_hits: int = 1000  # of a page of hits
    max_offset: int = 100_000
    max_text_characters: int = 10_000  # of a sentence: the tokenizer reads all of it
    concurrency: int = 256  # requests under way; further ones get 503
    max_connections: int = 1000  # open ones, idle ones included
    max_header_bytes: int = 64 * 2**10  # of a request, before its body

    batch_size: int = 32  # items the encoder computes at once
    batch_wait_s: float = 0.003  # how long the first of a batch waits for others
    image_queue: int = 512
    text_queue: int = 2048
    queue_wait_s: float = 5.0  # who would wait longer for the encoder than this, at the pace of late, gets 503 at once
    # More threads would mostly wait for each other: 16 clients got 230 searches a second of four, 310 of two.
    store_threads: int = 2  # that search in local collections
    scan_threads: int = 2  # for what looks at every picture, so that searches need not wait for it
    server_threads: int = 16  # that wait for vector databases elsewhere
    store_queue: int = 256

    deadline_s: float = 30.0  # of a request, from its last byte to its answer
    body_timeout_s: float = 30.0  # in which a request's head must have arrived, and then its body
    ready_deadline_s: float = 5.0
    shutdown_s: float = 30.0  # how long requests under way may take to finish

    http: str = "auto"  # uvicorn's implementation: httptools, h11, or the first of them that is installed

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
