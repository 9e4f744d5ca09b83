"""The encoders in use, one per model: shared by the collections of that model, and closed after the last one.

Knows encoders and who counts them; no collections, no HTTP.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from tandem.model import Model
from tandem.serve.encoding.encoder import Encoder


@dataclass
class _Entry:
    encoder: Encoder
    users: int = 0
    closing: threading.Timer | None = None


class EncoderPool:
    """`linger_s`: how long an encoder without users stays open for requests that have begun. It should be the longest
    time that a request may take.
    """

    def __init__(self, make: Callable[[Model], Encoder], *, linger_s: float) -> None:
        self._make = make
        self._linger_s = linger_s
        self._entries: dict[str, _Entry] = {}  # by fingerprint
        self._lock = threading.Lock()

    @property
    def encoders(self) -> list[Encoder]:
        """All that are in memory, those that linger included."""
        with self._lock:
            return [entry.encoder for entry in self._entries.values()]

    def acquire(self, fingerprint: str) -> Encoder | None:
        """The encoder of a model, if it is in memory; to be released."""
        with self._lock:
            entry = self._entries.get(fingerprint)
            return None if entry is None else self._used(entry)

    def add(self, model: Model) -> Encoder:
        """The encoder of this model, made if there is none; to be released."""
        with self._lock:
            entry = self._entries.get(model.fingerprint)
            if entry is None:
                entry = self._entries[model.fingerprint] = _Entry(self._make(model))
            return self._used(entry)

    def release(self, encoder: Encoder) -> None:
        """Release a reference. After the last one, a thread closes the encoder once no request can still use it."""
        with self._lock:
            entry = self._entries.get(encoder.model.fingerprint)
            if entry is None or entry.encoder is not encoder:  # the pool was closed before
                return
            entry.users -= 1
            if not entry.users:
                entry.closing = threading.Timer(self._linger_s, self._close_unused, (entry,))
                entry.closing.daemon = True
                entry.closing.start()

    def close(self) -> None:
        with self._lock:
            entries = list(self._entries.values())
            self._entries.clear()
        for entry in entries:
            if entry.closing is not None:
                entry.closing.cancel()
            entry.encoder.close()

    def _used(self, entry: _Entry) -> Encoder:
        entry.users += 1
        if entry.closing is not None:
            entry.closing.cancel()
            entry.closing = None
        return entry.encoder

    def _close_unused(self, entry: _Entry) -> None:
        with self._lock:
            fingerprint = entry.encoder.model.fingerprint
            if entry.users or self._entries.get(fingerprint) is not entry:
                return
            del self._entries[fingerprint]
        entry.encoder.close()
