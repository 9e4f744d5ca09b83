"""Pictures a second through `decode_stream`: JPEG files of 466 x 390, made from sample photos, to 224 x 224 pixels.

python bench/decode.py [--threads 2] [--pictures 400]
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from skimage import data

from tandem.config import Preprocessing
from tandem.image import decode_stream, load_image, preprocess

SIZE = (466, 390)


def photos() -> list[bytes]:
    """Four JPEG files."""
    files = []
    for name in ("chelsea", "astronaut", "coffee", "rocket"):
        file = io.BytesIO()
        Image.fromarray(getattr(data, name)()).resize(SIZE, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def rate(work: Callable[[], int]) -> str:
    """Median and range of five runs, a second."""
    rates = []
    for _ in range(5):
        start = time.perf_counter()
        count = work()
        rates.append(count / (time.perf_counter() - start))
    return f"{statistics.median(rates):7,.0f}   ({min(rates):,.0f} to {max(rates):,.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=400)
    chosen = parser.parse_args()
    preprocessing = Preprocessing(224)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, content in enumerate(photos() * (chosen.pictures // 4)):
            paths.append(Path(folder) / f"{i}.jpg")
            paths[-1].write_bytes(content)
        images = [load_image(path) for path in paths[:4]] * 25
        print(f"{len(paths)} JPEG files of {SIZE[0]} x {SIZE[1]}       pictures/s   (of five runs)")
        print(f"load_image, one thread              {rate(lambda: len([load_image(p) for p in paths]))}")
        print(
            f"preprocess, one thread               {rate(lambda: len([preprocess(i, preprocessing) for i in images]))}"
        )
        for threads in sorted({1, chosen.threads}):
            stream = rate(lambda n=threads: sum(1 for _ in decode_stream(paths, preprocessing, threads=n)))  # type: ignore[misc]
            print(f"decode_stream, {threads} thread(s)          {stream}")


if __name__ == "__main__":
    main()
