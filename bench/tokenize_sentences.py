"""Sentences a second through the tokenizer, on the captions of Flickr8k, and what its first use costs.

python bench/tokenize.py [--sentences 30000]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from tandem.tokenizer import Tokenizer
from tandem.tokenizer.cleaning import clean

SHARED = Path(os.environ.get("TANDEM_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def captions(count: int) -> list[str]:
    """The first `count` captions of Flickr8k's training split."""
    found: list[str] = []
    with tarfile.open(SHARED / "data" / "flickr8k" / "train-00000.tar") as tar:
        for member in tar:
            if member.name.endswith(".json"):
                found += json.load(tar.extractfile(member))["captions"]  # type: ignore[arg-type]
            if len(found) >= count:
                break
    return found[:count]


def rate(work: Callable[[], object], count: int) -> str:
    """Median and range of five runs, a second."""
    rates = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        rates.append(count / (time.perf_counter() - start))
    return f"{statistics.median(rates):9,.0f}   ({min(rates):,.0f} to {max(rates):,.0f})"


def cold(code: str) -> float:
    """Milliseconds that `code` takes in a fresh process, the interpreter's start left out; the least of five."""
    timed = f"import time; t = time.perf_counter(); exec({code!r}); print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", timed], capture_output=True, check=True, text=True) for _ in range(5)]
    return 1000 * min(float(run.stdout) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=30_000)
    texts = captions(parser.parse_args().sentences)
    tokenizer = Tokenizer.clip()
    batches = [texts[i : i + 2000] for i in range(0, len(texts), 2000)]
    odd = [f"{text} — “café” &amp; {i}" for i, text in enumerate(texts[:3000])]
    print(f"{len(texts):,} captions, {os.cpu_count()} cores                     sentences/s   (of five runs)")
    print(
        f"to rows of ids, batches of 2,000                {rate(lambda: [tokenizer(b) for b in batches], len(texts))}"
    )
    print(f"to rows of ids, all at once                     {rate(lambda: tokenizer(texts), len(texts))}")
    print(f"cleaning alone                                  {rate(lambda: [clean(t) for t in texts], len(texts))}")
    print(f"one sentence at a time                          {rate(lambda: [tokenizer(t) for t in texts[:3000]], 3000)}")
    print(f"not ASCII, through ftfy, batch of 3,000         {rate(lambda: tokenizer(odd), len(odd))}")
    first = "from tandem.tokenizer import Tokenizer; Tokenizer.clip()('a cat')"
    print(
        f"\ncold start, ms: import numpy {cold('import numpy'):.0f}, tokenizers {cold('import tokenizers'):.0f}, ",
        end="",
    )
    print(f"ftfy {cold('import ftfy'):.0f}; first sentence, imports included {cold(first):.0f}")


if __name__ == "__main__":
    main()
