"""Evaluation from a classifier's prompts to its figures: prompts, zero-shot with intervals, retrieval in blocks.

    python bench/evaluate.py [--only prompts,zero-shot,retrieval] [--share 0.1] [--rounds 3] [--tiny]

prompts: the class vectors of 1,000 names x 80 templates by ViT-B/32 with random weights. transformers gets ids padded
to 77, as its processor makes them, in batches of 64, for a share of the names; its time for all is extrapolated. Both
sides compute in float32 and start from texts. zero-shot: the whole task on 10,000 vectors and 1,000 classes, with all
intervals, temperature and prior correction; the class vectors are cached, since texts are the first row's. retrieval:
5,000 images and 25,000 captions from vectors, in a process of its own; memory is what its peak adds to that with the
vectors alone. Times are medians of the rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray
from reference import END, load_note, machine, make_folder

WORDS = """
bad good sharp blurry dark bright cropped small large clean dirty weird nice cool old plastic

house tree sea sand river mountain garden street night snow field desert city island forest kitchen water village stone
iron paper glass wood copper silk

cat dog finch shark lizard spider terrier wolf beetle monkey crab snail frog owl goose boat wagon balloon basket bottle
bridge chair clock cup drum fence flute gown hammer helmet lamp mask oboe piano shoe tank tower truck vase violin
"""
ADJECTIVES, KINDS, THINGS = (line.split() for line in WORDS.split("\n\n"))
FORMS = (
    "a {} photo of a {{}}.",
    "a {} picture of the {{}}.",
    "a {} drawing of a {{}}.",
    "art of the {} {{}}.",
    "a {} {{}}.",
)
TEMPLATES = tuple(form.format(adjective) for form in FORMS for adjective in ADJECTIVES)
NAMES = tuple(f"{kind} {thing}" for thing in THINGS for kind in KINDS)
DIMENSIONS = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tandem-bench-vit-b-32")
    parser.add_argument("--only", default="prompts,zero-shot,retrieval")
    parser.add_argument("--share", type=float, default=0.1, help="of the names that transformers encodes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="few names and images, one round: whether it runs")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_retrieval_alone(*map(int, arguments.child.split(",")))))
        return
    rounds = 1 if arguments.tiny else arguments.rounds
    print(f"{machine()}; {load_note()}\n\n| what | figure | target |\n|---|---|---|", flush=True)
    wanted = arguments.only.split(",")
    if "zero-shot" in wanted:
        zero_shot(1_000 if arguments.tiny else 10_000, 100 if arguments.tiny else 1_000, rounds)
    if "retrieval" in wanted:
        retrieval(500 if arguments.tiny else 5_000, rounds)
    if "prompts" in wanted:
        prompts(make_folder(arguments.folder), 20 if arguments.tiny else len(NAMES), arguments.share)


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The median time of a call."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def prompts(folder: Path, names: int, share: float) -> None:
    """Both sides make one vector for each name, from all of its prompts."""
    import torch
    from transformers import CLIPModel

    import tandem

    ours = tandem.load(folder)
    ours.embed_texts(["a photo of a cat."] * 64)  # compiled
    tenth = NAMES[: max(1, round(names * share))]
    theirs = CLIPModel.from_pretrained(folder).eval()

    def padded(texts: Sequence[str]) -> "torch.Tensor":
        ids = ours.tokenizer(texts)
        rows = np.full((len(ids), 77), END)
        rows[:, : ids.shape[1]] = np.where(ids == 0, END, ids)
        return torch.from_numpy(rows)

    def their_vectors() -> "torch.Tensor":
        ids = padded([template.replace("{}", name) for name in tenth for template in TEMPLATES])
        found = [theirs.get_text_features(ids[i : i + 64]) for i in range(0, len(ids), 64)]
        rows = torch.cat([getattr(each, "pooler_output", each) for each in found])
        rows = torch.nn.functional.normalize(rows, dim=-1).reshape(len(tenth), len(TEMPLATES), -1).mean(1)
        return torch.nn.functional.normalize(rows, dim=-1)

    with torch.inference_mode():
        start = time.perf_counter()
        expected = their_vectors().numpy()
        their_seconds = (time.perf_counter() - start) * names / len(tenth)
    start = time.perf_counter()
    found = ours.class_vectors(NAMES[:names], TEMPLATES)
    our_seconds = time.perf_counter() - start
    worst = float((found[: len(tenth)] * expected).sum(1).min())
    print(
        f"| {names:,} names x {len(TEMPLATES)} templates, float32 | {our_seconds:.1f} s, transformers "
        f"{their_seconds:.0f} s (extrapolated from {len(tenth)} names): {their_seconds / our_seconds:.1f}x; least "
        f"cosine between both {worst:.6f} | 20x |",
        flush=True,
    )


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def zero_shot(images: int, classes: int, rounds: int) -> None:
    """The task on vectors near those of their classes, by a model that has the class vectors already."""
    from tandem.datasets.dataset import Dataset
    from tandem.evaluate.features import Features
    from tandem.evaluate.zero_shot import zero_shot as task

    rng = np.random.default_rng(0)
    words = _unit(rng.standard_normal((classes, DIMENSIONS), dtype=np.float32))
    labels = rng.integers(0, classes, images)
    vectors = _unit(words[labels] + 0.35 * rng.standard_normal((images, DIMENSIONS), dtype=np.float32))
    keys, digests = tuple(map(str, range(images))), tuple(bytes(32) for _ in range(images))
    data = Dataset("bench", "bench", "folder", None, keys, digests, lambda places: [], NAMES[:classes], tuple(
        (int(label),) for label in labels))  # fmt: skip
    other = _unit(words + 0.02 * rng.standard_normal(words.shape, dtype=np.float32))
    model = SimpleNamespace(
        name="bench", fingerprint="0", logit_scale=100.0, config=SimpleNamespace(data=""),
        class_vectors=lambda names, templates, language=None: words if isinstance(templates, tuple) else other,
    )  # fmt: skip
    features = Features(data, vectors, "bench", "0")
    result = task(model, features)  # type: ignore[arg-type]
    taken = seconds(lambda: task(model, features), rounds)  # type: ignore[arg-type]
    top1 = result.figures["top1"]
    print(
        f"| zero-shot, {images:,} vectors, {classes:,} classes, {len(result.figures)} figures with intervals | "
        f"{taken:.2f} s (top-1 {top1.value:.1%}, {top1.low:.1%} to {top1.high:.1%}) | 3 s |",
        flush=True,
    )


def retrieval(images: int, rounds: int) -> None:
    """Each round is a process of its own, so that its peak is its own too."""
    found = [
        json.loads(subprocess.run([sys.executable, __file__, "--child", f"{images},5"], capture_output=True, check=True,
                                  text=True).stdout) for _ in range(rounds)
    ]  # fmt: skip
    taken, extra = (statistics.median(each[key] for each in found) for key in ("seconds", "extra_megabytes"))
    print(
        f"| retrieval, {images:,} images x {5 * images:,} captions, both directions with intervals | {taken:.2f} s, "
        f"{extra:.0f} MB beyond the vectors | 1.5 s, 300 MB |",
        flush=True,
    )


def _retrieval_alone(images: int, captions: int) -> dict[str, float]:
    from tandem.evaluate.retrieval import retrieval_figures

    rng = np.random.default_rng(0)
    vectors = _unit(rng.standard_normal((images, DIMENSIONS), dtype=np.float32))
    owner = np.repeat(np.arange(images), captions)
    texts = np.empty((len(owner), DIMENSIONS), np.float32)
    for start in range(0, len(texts), 1000):  # in parts: what is made in between is no part of the peak
        part = slice(start, start + 1000)
        noise = rng.standard_normal((len(owner[part]), DIMENSIONS), dtype=np.float32)
        texts[part] = _unit(vectors[owner[part]] + 0.3 * noise)
    vectors[:64] @ texts[:64].T  # the threads of the products are started
    before = _peak_megabytes()
    start_s = time.perf_counter()
    retrieval_figures(vectors, texts, owner)
    return {"seconds": time.perf_counter() - start_s, "extra_megabytes": _peak_megabytes() - before}


def _peak_megabytes() -> float:
    """The largest resident set of this process until now; its present one, where that can be reset (Linux)."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        peak = int(lines["VmHWM"].split()[0]) / 2**10
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    return peak


if __name__ == "__main__":
    main()
