"""Moments of a film: ten minutes of 720p, from the file to the collection, beside what decoding alone takes.

    python bench/video.py [--minutes 10] [--film FILE] [--rounds 3]

The film is made here: scenes of 1.5 to 12 s, each a slow pan over a photograph of scikit-image or scikit-learn in other
colours, with grain, H.264 by libx264 (veryfast, crf 23). So the times of its cuts are known: a scene is found if a
moment lies in it. With --film it is one of yours, of which only times are measured. Every way of decoding is timed by
itself, then the frames that are kept, then `tandem index` as a whole process with the model that ships.
"""

import argparse
import bisect
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from indexing import photographs
from PIL import Image
from reference import load_note, machine

from tandem.videos.moments import moments

SIZE, RATE = (1280, 720), 25
WAYS = ("DEFAULT", "NONREF", "BIDIR", "NONKEY")  # what is not decoded: nothing, ..., all but key frames


def make(path: Path, seconds: float, seed: int = 0) -> list[float]:
    """Write the film. Returns when its scenes begin."""
    draw = np.random.default_rng(seed)
    photos = [
        np.asarray(photo.convert("RGB").resize((1600, 1200), Image.Resampling.BICUBIC)) for photo in photographs()
    ]
    grain = [draw.normal(0, 4, (SIZE[1], SIZE[0], 1)).astype(np.int16) for _ in range(4)]
    begins: list[float] = []
    left = 0
    photo, at, step = photos[0].astype(np.int16), np.zeros(2), np.zeros(2)
    most = np.array([1600 - SIZE[0], 1200 - SIZE[1]])
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(int(seconds * RATE)):
            if left == 0:
                begins.append(number / RATE)
                left = int(draw.integers(int(1.5 * RATE), 12 * RATE))
                chosen = photos[int(draw.integers(len(photos)))]
                photo = (chosen * draw.uniform(0.6, 1.2, 3)).clip(0, 255).astype(np.int16)
                at, step = draw.uniform(0, most), draw.uniform(-1.5, 1.5, 2)
            left -= 1
            at = (at + step).clip(0, most)
            x, y = at.astype(int)
            drawn = (photo[y : y + SIZE[1], x : x + SIZE[0]] + grain[number % 4]).clip(0, 255).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(drawn), format="rgb24")))
        out.mux(stream.encode())
    return begins


def decode(path: Path, way: str) -> int:
    """Decode and do nothing. Returns the number of frames."""
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.skip_frame = way
        return sum(1 for _ in film.decode(stream))


def choose(path: Path) -> list[float]:
    return [moment.time_s for moment in moments(str(path))]


def index(path: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tandem", "index", str(path), "--to", f"{folder}/film.tandem"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def timed(rounds: int, work: Callable[[], object]) -> tuple[float, object]:
    times, result = [], None
    for _ in range(rounds):
        began = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - began)
    return statistics.median(times), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--film", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{machine()}; {load_note()}")
    with tempfile.TemporaryDirectory() as folder:
        path, begins = options.film, []
        if path is None:
            path = Path(folder) / "film.mp4"
            begins = make(path, 60 * options.minutes)
        with av.open(str(path)) as film:
            length = film.duration / av.time_base
            video = film.streams.video[0]
            kind = f"{video.codec_context.name}, {video.width} x {video.height}"
        print(f"{length:.0f} s of {kind}, {path.stat().st_size / 2**20:.0f} MiB")
        for way in WAYS:
            seconds, frames = timed(options.rounds, lambda way=way: decode(path, way))
            print(f"decoding, without {way:<8} {seconds:7.2f} s  {frames:>7,} frames  1/{length / seconds:.0f} of it")
        seconds, kept = timed(options.rounds, lambda: choose(path))
        assert isinstance(kept, list)
        print(f"moments                   {seconds:7.2f} s  {len(kept):>7,} kept    1/{length / seconds:.0f} of it")
        if begins:
            places = [bisect.bisect_left(kept, time_s) for time_s in (*begins, length)]
            found = sum(after > before for before, after in itertools.pairwise(places))
            print(f"  scenes with a moment: {found} of {len(begins)}")
        seconds, said = timed(options.rounds, lambda: index(path))
        print(f"tandem index              {seconds:7.2f} s  {said.partition(': ')[2]}  1/{length / seconds:.0f} of it")


if __name__ == "__main__":
    main()
