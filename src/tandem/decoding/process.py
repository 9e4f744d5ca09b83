"""Decodes images of slow formats in processes that are killed when their time is over.

Threads cannot be stopped, and decoders written in Python take seconds for what others do in milliseconds. A process
is kept for the next image; there are as many as threads that decode such images at the same time.
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, cast

from PIL import Image

from tandem.decoding.budget import in_flight
from tandem.decoding.refusals import too_long, too_much_memory
from tandem.decoding.worker import GO_ON, OPEN_S, REFUSE
from tandem.errors import ImageError, ImageErrorKind

_START_S = 60.0  # to import Pillow, on the busiest machine
_WALL = 5  # times the seconds of CPU time that the process limits itself to: the machine may be busy
_CODE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from tandem.decoding.worker import main
main()
"""

_lock = threading.Lock()
_idle: list["_Process"] = []


def decode(
    content: bytes, identifier: str, name: str, *, max_pixels: int, max_memory: int, max_seconds: float
) -> Image.Image:
    """The image of a file in the format that Pillow calls `identifier`. Raises `ImageError`, and no other exception.

    It may take `max_seconds`, and is refused before it begins where its header promises more.
    """
    limits = {"max_pixels": max_pixels, "max_memory": max_memory, "max_seconds": max_seconds}
    process = _taken()
    try:
        image = _exchange(process, content, identifier, name, limits)
    except ImageError:
        _give_back(process)
        raise
    except (OSError, ValueError, KeyError):  # it is no more, or no sense can be made of what it says
        process.end()
        if process.was_stopped:
            reason = "its decoder takes longer than its header promises, and was stopped"
            raise ImageError(name, reason, "timeout") from None
        raise ImageError(name, f"its decoder of {identifier} failed: the file is damaged", "damaged") from None
    except BaseException:
        process.end()
        raise
    _give_back(process)
    return image


def _exchange(process: "_Process", content: bytes, identifier: str, name: str, limits: dict[str, Any]) -> Image.Image:
    with process.within(_WALL * OPEN_S):
        asked = {"format": identifier, "bytes": len(content), **limits}
        process.send(json.dumps(asked).encode() + b"\n" + content)
        opened = _known(process.line(), name)
    memory, promised, most = int(opened["memory"]), float(opened["seconds"]), float(limits["max_seconds"])
    width, height = int(opened["width"]), int(opened["height"])
    reason = ""
    if promised > most:
        reason = too_long(width, height, identifier, promised, most)
    elif memory > limits["max_memory"]:
        reason = too_much_memory(width, height, identifier, memory, limits["max_memory"])
    if reason:
        process.send(REFUSE)
        raise ImageError(name, reason, "too_large")
    with in_flight().take(memory), process.within(_WALL * most):
        process.send(GO_ON)
        answer = _known(process.line(), name)
        colours = process.read(int(answer.get("colours", 0)))
        pixels = process.read(int(answer["bytes"]))
    image = Image.frombytes(answer["mode"], tuple(answer["size"]), pixels)
    if colours:
        image.putpalette(colours, answer["palette"])
    image.format = identifier
    return image


def _known(said: dict[str, Any], name: str) -> dict[str, Any]:
    """What the process said. Raises the `ImageError` that it stands for."""
    if "error" in said:
        raise ImageError(name, str(said["error"]), cast(ImageErrorKind, said["kind"]))
    return said


# --- processes -----------------------------------------------------------------------------------------------------


def _taken() -> "_Process":
    with _lock:
        _idle[:] = [each for each in _idle if each.is_usable]
        if _idle:
            return _idle.pop()
    return _Process()


def _give_back(process: "_Process") -> None:
    if process.is_usable:
        with _lock:
            _idle.append(process)


@atexit.register
def _end_all() -> None:
    for each in _idle:
        if each.owner == os.getpid():
            each.stop()
            each.end()


class _Process:
    def __init__(self) -> None:
        self.owner = os.getpid()
        self.was_stopped = False
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _CODE, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._in, self._out = self._popen.stdin, self._popen.stdout
        with self.within(_START_S):
            self.line()  # it has imported all that it needs

    @property
    def is_usable(self) -> bool:
        """Whether it runs, and is this process's own: a fork would share its pipes."""
        return self.owner == os.getpid() and self._popen.poll() is None

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Kill the process if the block takes longer; reading then meets its end."""
        timer = threading.Timer(seconds, self.stop)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def stop(self) -> None:
        self.was_stopped = True
        self._popen.kill()

    def send(self, content: bytes) -> None:
        self._in.write(content)
        self._in.flush()

    def line(self) -> dict[str, Any]:
        """The next JSON line."""
        said: dict[str, Any] = json.loads(self._out.readline())  # a ValueError where the process ended
        return said

    def read(self, count: int) -> bytes:
        content = self._out.read(count)
        if len(content) < count:
            raise OSError("the decoding process ended")
        return content

    def end(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(0.2)  # one that its own limit ended says so
        self._popen.kill()
        for pipe in (self._in, self._out):
            with contextlib.suppress(OSError):  # what was written is lost
                pipe.close()
        self.was_stopped = self.was_stopped or self._popen.wait() == -getattr(signal, "SIGXCPU", 0)
