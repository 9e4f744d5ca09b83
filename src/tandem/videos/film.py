"""A film's frames, streamed: decoded under limits, upright, with their times. The only module that imports PyAV.

Only the formats of `_FORMATS` are opened, from a local file: a playlist that calls itself .mp4 would open others.
"""

import contextlib
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.errors import DataError, MissingExtraError, TandemError
from tandem.videos.naming import clock

MAX_PIXELS = 8192 * 4608  # of a frame, whatever the limits are: a decoder holds some twenty at once
MAX_BAD_PACKETS = 500  # in a row, of a damaged part, before the rest is given up
SIDE = 512  # pixels of the shorter side of a kept picture; more than twice what most models read
LONG_SIDE = 4096  # of the longer one: of a film as flat as a ticker, the shorter one is less
MOST_ASPECT = 16  # of a pixel, its longer side to its shorter: cameras write at most 2, and a damaged file anything
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg"
_ENDS_EARLY_S = 2.0  # less than its length by this: it was cut off


@dataclass(frozen=True)
class Frame:
    """A decoded frame: when it is shown, in seconds from the beginning, and its pixels as they are asked for."""

    time_s: float
    _frame: Any
    _scaler: Any
    _shape: tuple[int, int, int]  # upright width and height, and quarter turns to the left

    @property
    def size(self) -> tuple[int, int]:
        """Width and height upright, with square pixels."""
        return self._shape[0], self._shape[1]

    def small(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """A copy of this width and height, as it is stored (not upright), uint8 [h w 3]."""
        return self._scaled(*size)

    def picture(self) -> NDArray[np.uint8]:
        """The frame upright, uint8 [h w 3]: at most `SIDE` pixels on the shorter side, `LONG_SIDE` on the other."""
        width, height, turns = self._shape
        share = min(1.0, SIDE / min(width, height), LONG_SIDE / max(width, height))
        width, height = max(1, round(width * share)), max(1, round(height * share))
        if turns % 2:
            width, height = height, width
        return np.ascontiguousarray(np.rot90(self._scaled(width, height), turns))

    def _scaled(self, width: int, height: int) -> NDArray[np.uint8]:
        scaled = self._scaler.reformat(self._frame, width, height, "rgb24", dst_color_range="JPEG", threads=1)
        return np.asarray(scaled.to_ndarray(), dtype=np.uint8)


class Film:
    """An open film: `with Film(path, max_pixels=...) as film:`. Raises `DataError` of one line for what cannot be read.

    `MissingExtraError` without PyAV.
    """

    def __init__(self, path: str, max_pixels: int = MAX_PIXELS) -> None:
        self._av = _pyav()
        self.path = path
        self._max_pixels = min(max_pixels, MAX_PIXELS)
        self._is_broken = False  # the last reading came to damage that it could not read past
        self._container = self._open()
        try:
            self._stream = self._video_stream()
            self._check(self._stream.width, self._stream.height)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> "Film":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @property
    def format(self) -> str:
        """The name of its kind of file, such as MP4."""
        return os.path.splitext(self.path)[1][1:].upper()

    @property
    def created(self) -> str | None:
        """When it was made, as ISO 8601, where the camera wrote it."""
        written = self._container.metadata.get("creation_time") or self._stream.metadata.get("creation_time")
        return str(written) if written else None

    @property
    def length_s(self) -> float | None:
        """Its length as the file says; None where it does not."""
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        if self._container.duration is None:
            return None
        # Matroska counts to its end from zero, wherever it begins.
        before = self._begins if "matroska" in self._container.format.name else 0
        return float(self._container.duration - before) / float(self._av.time_base)

    def frames(self, since_s: float = 0.0) -> Generator[Frame, None, None]:
        """The frames from a time on, in order; of compressed films those that others are built on, a few a second.

        Raises `DataError` at damage that it cannot read past, and where the file ends early, after the frames before.
        """
        last_s: float | None = None
        for frame in self._since(since_s):
            last_s = frame.time_s
            if last_s >= since_s:
                yield frame
        if last_s is None:
            raise DataError(f"{self.path}: no picture in it can be decoded: it is damaged, or protected")
        end = self.length_s if self._is_length_of_pictures else None
        if self._is_broken or (end is not None and last_s < end - max(_ENDS_EARLY_S, 0.02 * end)):
            where = clock(last_s) + ("" if end is None else f" of {clock(end)}")
            raise DataError(f"{self.path}: damaged or cut off after {where}; what comes before is kept")

    # --- opening -------------------------------------------------------------------------------------------------

    def _open(self) -> Any:
        try:
            container = self._av.open(
                self.path,
                container_options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
                metadata_errors="replace",
            )
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise DataError(f"{self.path}: {_reason(error)}") from None
        return container

    def _video_stream(self) -> Any:
        attached = self._av.stream.Disposition.attached_pic
        videos = [one for one in self._container.streams.video if not one.disposition & attached]
        if not videos:
            sound = "only sound" if self._container.streams.audio else "no video"
            raise DataError(f"{self.path}: {sound} in it, no pictures")
        best = self._container.streams.best("video")
        chosen = best if best in videos else videos[0]
        if chosen.codec_context is None:
            raise DataError(f"{self.path}: its video has a codec that is not known here")
        chosen.thread_type = "AUTO"
        # Frames that no other frame is built on are left out: a fifth of the work (docs/log.md).
        chosen.codec_context.skip_frame = "BIDIR"
        chosen.codec_context.options = {"max_pixels": str(self._max_pixels)}
        return chosen

    def _check(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            pixels = f"{width:,} x {height:,} pixels"
            raise DataError(f"{self.path}: {pixels}, more than the limit of {self._max_pixels:,}")

    # --- decoding ------------------------------------------------------------------------------------------------

    @property
    def _is_length_of_pictures(self) -> bool:
        """Whether the length is that of the pictures: where the file gives only one, sound may be longer."""
        return self._stream.duration is not None or not self._container.streams.audio

    def _since(self, since_s: float) -> Generator[Frame, None, None]:
        """Frames from before a time on; from the beginning where the film cannot be entered there."""
        if since_s > 0 and self._enter(since_s):
            frames = self._decoded()
            first = next(frames, None)
            if first is not None and first.time_s <= since_s:
                yield first
                yield from frames
                return
            frames.close()
            self._container.close()
            self._container = self._open()
            self._stream = self._video_stream()
        yield from self._decoded()

    def _enter(self, since_s: float) -> bool:
        try:
            self._container.seek(self._begins + int(since_s * self._av.time_base))
        except self._av.FFmpegError:
            return False
        return True

    @property
    def _begins(self) -> int:
        """Where the film's own clock stands at its beginning, in microseconds: players count from there."""
        return int(self._container.start_time or 0)

    def _decoded(self) -> Generator[Frame, None, None]:
        scaler = self._av.video.reformatter.VideoReformatter()
        begins_s = self._begins / self._av.time_base
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 25)
        count = 0
        last_s = -1.0
        for frame in self._raw():
            self._check(frame.width, frame.height)
            time_s = count / rate if frame.time is None else max(0.0, float(frame.time) - begins_s)
            count += 1
            if time_s <= last_s:  # the clock of a damaged file jumps back
                continue
            last_s = time_s
            yield Frame(time_s, frame, scaler, self._shape_of(frame))

    def _raw(self) -> Generator[Any, None, None]:
        bad = 0
        self._is_broken = False
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (self._av.FFmpegError, OSError):
                self._is_broken, packet = True, None
            try:
                if packet is None:
                    with contextlib.suppress(self._av.EOFError):
                        yield from self._stream.decode(None)
                    self._is_broken |= bad > 0
                    break
                for frame in packet.decode():
                    bad = 0
                    yield frame
            except self._av.EOFError:
                break
            except (self._av.FFmpegError, ValueError):
                bad += 1
                if packet is None or bad > MAX_BAD_PACKETS:
                    self._is_broken = True
                    break

    def _shape_of(self, frame: Any) -> tuple[int, int, int]:
        """Width and height upright, with square pixels, and quarter turns to the left that make it upright."""
        width, height = frame.width, frame.height
        aspect = self._stream.sample_aspect_ratio
        if aspect and aspect > 0:
            if not 1 / MOST_ASPECT <= aspect <= MOST_ASPECT:
                shape = f"{aspect.numerator:,}:{aspect.denominator:,}"
                raise DataError(f"{self.path}: damaged: the shape of its pixels is said to be {shape}")
            width, height = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
            self._check(width, height)
        turns = round(frame.rotation / 90) % 4
        return (height, width, turns) if turns % 2 else (width, height, turns)


@contextlib.contextmanager
def film_errors(path: str) -> Iterator[None]:
    """Whatever a film makes the decoder raise becomes a `DataError` of one line: no film may end a run over many."""
    try:
        yield
    except TandemError:
        raise
    except Exception as error:
        raise DataError(f"{path}: it cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """An error as part of a line."""
    known = dict.fromkeys(("InvalidDataError", "EOFError", "ArgumentError"), "it is damaged, incomplete, or no film")
    known |= {"MemoryError": "it needs too much memory", "PermissionError": "permission denied"}
    known |= {"FileNotFoundError": "no such file"}
    name = type(error).__name__
    lines = str(getattr(error, "strerror", None) or error).splitlines()
    return known.get(name, lines[0] if lines else name)


def _pyav() -> Any:
    try:
        import av
        import av.stream
        import av.video.reformatter
    except ImportError:
        raise MissingExtraError("PyAV", "video", "reading films") from None
    return av
