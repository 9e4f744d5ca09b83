"""`serve`: an application on a port, until SIGINT or SIGTERM. Requests in flight are finished first."""

import gc
import logging
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.errors import MissingExtraError, TandemError
from tandem.model import Model
from tandem.serve.settings import Settings

if TYPE_CHECKING:
    from tandem.serve.http.keys import KeyFile

_log = logging.getLogger(__name__)

OTHER_FILES = 200  # open files of collections, models and libraries
GC_THRESHOLDS = (10_000, 10, 50)  # objects before a collection; a full one stops all requests, so it is rare
SWITCH_INTERVAL_S = 0.0005  # after which a thread that tokenizes gives way to the event loop; Python's 0.005 adds up


def serve(
    collections: Sequence[str],
    settings: Settings,
    *,
    model: str | Path | Model | None = None,
    loading: dict[str, Any] | None = None,
    say: Callable[[str], None] = _log.info,
    access_log: bool = False,
    opened: Callable[[str], None] = lambda _: None,
) -> None:
    """Blocks until SIGINT or SIGTERM. `say` gets lines for people (the address, and warnings), `opened` the URL of each
    collection once all of them are open.

    Raises `TandemError`: for an error in the settings, the collections or the port.
    """
    try:
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn

        from tandem.serve.app import build_app
        from tandem.serve.http.connections import protocol
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve", "tandem serve") from None
    from tandem.serve.http.keys import KeyFile
    from tandem.serve.log_limit import limit_logs
    from tandem.serve.service import open_service

    # Errors in it are reported before models are loaded.
    if settings.keys_file is not None:
        keys = KeyFile(settings.keys_file, allow_shared=settings.allow_shared_keys)
        if keys.writable_by_others:
            say(f"warning: other users of this machine may write to {settings.keys_file}, and so let themselves in")
        elif keys.readable_by_others:
            say(f"warning: other users of this machine may read {keys.path}; run: chmod 600 {keys.path}")
    listening = bound(settings)
    try:
        service = open_service(settings, collections, model=model, loading=loading)
    except BaseException:
        listening.close()
        raise
    for handle in service.registry.collections.values():
        opened(handle.url)
    if not settings.on_loopback and settings.keys_file is None:
        say(f"warning: {settings.host} is reachable from other machines, and no key is asked for; see --api-key-file")
    configured = uvicorn.Config(
        build_app(service),
        http=protocol(replace(settings, max_connections=min(settings.max_connections, _files_to_spare()))),
        ws="none",
        log_level="info" if access_log else "warning",
        access_log=access_log,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_s)),
        h11_max_incomplete_event_size=settings.max_header_bytes,
        lifespan="on",
    )
    limit_logs()
    _reload_keys_on_hangup(service.keys)
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    say(f"serving {', '.join(service.registry.collections) or 'a model'} at http://{shown}:{port} (stop: Ctrl-C)")
    with short_pauses(), suppress(KeyboardInterrupt):  # Ctrl-C stops a server: its requests are finished by then
        uvicorn.Server(configured).run(sockets=[listening])
    say("stopped")


@contextmanager
def short_pauses() -> Iterator[None]:
    """Spare requests two pauses of Python: a full garbage collection among all that libraries and models have made,
    100 ms each time requests have made many objects; and the time one thread computes before it is another's turn.
    """
    interval_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _reload_keys_on_hangup(keys: "KeyFile | None") -> None:
    """SIGHUP reads the keys anew, as of other servers. Without keys it is ignored: it must not end the server."""
    import signal
    import threading

    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        return

    def reload(*_: object) -> None:
        if keys is not None:
            keys.reload()

    signal.signal(signal.SIGHUP, reload)


def bound(settings: Settings) -> socket.socket:
    """The socket, bound before models are loaded: a port that is taken is reported at once."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(2048)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise TandemError(
            f"{settings.host}:{settings.port} cannot be listened on ({reason}); choose another --port"
        ) from None
    return listening


def _files_to_spare() -> int:
    """How many connections the limit of open files allows."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 2**31
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else max(16, soft - OTHER_FILES)
