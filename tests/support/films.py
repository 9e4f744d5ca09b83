"""Small films, made with PyAV: scenes of one colour each, at known times."""

import fractions
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

RATE = 10  # frames a second
SIZE = (64, 48)
SCENES = (("red", 2.0), ("green", 1.5), ("blue", 2.5))  # begin at 0, 2 and 3.5 s
COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "grey": (128, 128, 128)}


def colour_of(pixels: np.ndarray) -> str:
    """The colour that most of a picture has."""
    middle = np.median(pixels.reshape(-1, 3), axis=0)
    return min(COLOURS, key=lambda name: float(np.abs(middle - COLOURS[name]).sum()))


def drawn(colour: str, size: tuple[int, int] = SIZE, *, moved: float = 0.0) -> np.ndarray:
    """A picture of a colour with a white bar in the upper left, uint8 [h w 3]; `moved` shifts the bar down, 0..1."""
    picture = np.empty((size[1], size[0], 3), np.uint8)
    picture[:] = COLOURS[colour]
    top = int(moved * size[1] * 0.75)
    picture[top : top + size[1] // 4, : size[0] // 2] = 255
    return picture


def make(
    path: Path,
    scenes: Sequence[tuple[str, float]] = SCENES,
    *,
    size: tuple[int, int] = SIZE,
    codec: str = "libx264",
    rotation: float = 0,
    offset_s: float = 0.0,
    moving: bool = False,
    gaps: bool = False,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a film. `moving`: the bar moves; `gaps`: a variable rate, every third frame is left out."""
    with av.open(str(path), "w", container_options=container or {}) as out:
        out.metadata.update(metadata or {})
        stream = out.add_stream(codec, rate=RATE, options=options or {"g": "20"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = fractions.Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        number = 0
        for colour, seconds in scenes:
            for step in range(round(seconds * RATE)):
                number += 1
                if gaps and number % 3 == 2:
                    continue
                moved = step / (seconds * RATE) if moving else 0.0
                frame = av.VideoFrame.from_ndarray(drawn(colour, size, moved=moved), format="rgb24")
                frame.pts = round((number - 1) * 1000 / RATE + offset_s * 1000)
                frame.time_base = fractions.Fraction(1, 1000)
                out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def make_sound(path: Path) -> Path:
    """A file with sound and no pictures."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path
