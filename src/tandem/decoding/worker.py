"""The process that decodes images of slow formats, one after the other, until its input ends.

`process.py` starts it, sends files and kills it where one takes too long. Imports Pillow and what an image costs.

A request is a JSON line and the file's bytes. The header comes back as a JSON line; after `GO_ON` the image does, as a
JSON line and its bytes. In the place of either line may be an error.
"""

import contextlib
import io
import json
import math
import signal
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from tandem.decoding import cost
from tandem.decoding.refusals import too_many_pixels

GO_ON, REFUSE = b"go on\n", b"refuse\n"
OPEN_S = 1.0  # of CPU time for a header: those of slow formats are small
_SLACK = 4  # times the seconds that were measured: processors differ
_SPARE = 256 * 2**20  # beside what the header promises
_PAGE = 4096


def main() -> None:
    """Answer requests on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the end of the input ends this process
    Image.init()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    _write(answers, {"ready": True})
    while line := requests.readline():
        asked = json.loads(line)
        content = requests.read(asked["bytes"])
        try:
            _answer(content, asked, requests, answers)
        except MemoryError:
            _write(answers, {"error": "too large for the memory that its header promises", "kind": "too_large"})
        except Exception as error:
            reason = str(error) or type(error).__name__
            _write(answers, {"error": f"cannot be decoded: {reason}"[:500], "kind": "damaged"})
        _limit_memory(None)
        _limit_time(None)


def _answer(content: bytes, asked: dict[str, Any], requests: BinaryIO, answers: BinaryIO) -> None:
    factory, _ = Image.OPEN[asked["format"]]
    _limit_memory(0)
    _limit_time(OPEN_S)
    image = factory(io.BytesIO(content), "")
    if image.width * image.height > asked["max_pixels"]:
        said = too_many_pixels(image.width, image.height, asked["max_pixels"])
        return _write(answers, {"error": said, "kind": "too_large"})
    if image.width < 1 or image.height < 1:
        said = f"{image.width} x {image.height} pixels: nothing to see"
        return _write(answers, {"error": said, "kind": "damaged"})
    memory, seconds = cost.memory(image), cost.seconds(image)
    _write(answers, {"width": image.width, "height": image.height, "memory": memory, "seconds": seconds})
    if requests.readline() != GO_ON:
        return None
    _limit_memory(memory)
    _limit_time(min(asked["max_seconds"], _SLACK * seconds))
    image.load()
    palette = image.palette
    pixels = image.tobytes()
    held: dict[str, Any] = {"mode": image.mode, "size": image.size, "bytes": len(pixels)}
    if palette is not None and image.mode in ("P", "PA"):
        colours = image.im.getpalette(palette.mode, palette.mode)
        held |= {"palette": palette.mode, "colours": len(colours)}
        pixels = colours + pixels
    _write(answers, held, pixels)
    return None


def _write(answers: BinaryIO, header: dict[str, Any], content: bytes = b"") -> None:
    answers.write(json.dumps(header).encode() + b"\n")
    answers.write(content)
    answers.flush()


def _limit_memory(promised: int | None) -> None:
    """Let the process have so many bytes more than it has now; None: as many as there are. Linux only."""
    with contextlib.suppress(OSError):
        now = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
        _limit("RLIMIT_AS", None if promised is None else now + promised + _SPARE)


def _limit_time(seconds: float | None) -> None:
    """Let the system end the process after so much CPU time from now, rounded up; None: after any. Unix only."""
    _limit("RLIMIT_CPU", None if seconds is None else math.ceil(time.process_time() + seconds))


def _limit(name: str, soft: int | None) -> None:
    try:
        import resource
    except ImportError:
        return
    kind = getattr(resource, name)
    _, hard = resource.getrlimit(kind)
    soft = hard if soft is None else soft
    resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
