"""Results of evaluations made by hand: nothing is encoded, and every figure is known."""

import io
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem.datasets.dataset import Dataset
from tandem.evaluate.figures import Figure
from tandem.evaluate.records import Environment, ModelRecord
from tandem.evaluate.result import DatasetRecord, TaskResult
from tandem.evaluate.run_report import RunReport

CLASSES = ("cat", "dog", "<b>&hostile|*name*")


def dataset(images: int = 12, name: str = "pets") -> Dataset:
    """Tiny images of three classes in turn; the file of the first has a hostile name."""

    def open_images(places: Sequence[int]) -> Iterable[bytes]:
        for place in places:
            file = io.BytesIO()
            Image.new("RGB", (8, 8), (place * 20 % 256, 80, 200)).save(file, "PNG")
            yield file.getvalue()

    keys = tuple(f"cat/{i}.png" if i else '<img src=x onerror="alert(1)">\udcff.png' for i in range(images))
    label_sets = tuple((i % 3,) for i in range(images))
    digests = tuple(bytes([i]) * 32 for i in range(images))
    return Dataset(name, f"/data/{name}", "folder", None, keys, digests, open_images, CLASSES, label_sets)


def zero_shot(data: Dataset, right: NDArray[np.bool_]) -> TaskResult:
    """A zero-shot result whose wrong answers are the next class."""
    labels = data.labels
    answer = np.where(right, labels, (labels + 1) % 3)
    cells = [(int(t), int(a), int(((labels == t) & (answer == a)).sum())) for t in range(3) for a in range(3)]
    top1 = float(right.mean())
    per_class = [
        {
            "class": name,
            "n": int((labels == at).sum()),
            "accuracy": float(right[labels == at].mean()),
            "low": 0.0,
            "high": 1.0,
            "confused_with": CLASSES[(at + 1) % 3],
        }
        for at, name in enumerate(CLASSES)
        if (labels == at).any()
    ]
    prior = [
        {"class": name, "share": float((answer == at).mean()), "true_share": float((labels == at).mean())}
        for at, name in enumerate(CLASSES)
    ]
    return TaskResult(
        "zero-shot",
        DatasetRecord.of(data),
        {"templates": ["a photo of a {}."], "seed": 0},
        {
            "top1": Figure(top1, len(data), max(0.0, top1 - 0.1), min(1.0, top1 + 0.1), 1 / 3),
            "calibration_error": Figure(0.05, len(data), 0.01, 0.09, None, "score"),
        },
        {
            "classes": list(CLASSES),
            "per_class": per_class,
            "confusion": [cell for cell in cells if cell[2]],
            "calibration": [{"confidence": 0.9, "accuracy": top1, "n": len(data)}],
            "class_prior": prior,
        },
        data.keys,
        {
            "top1": right.astype(np.float32),
            "answer": answer.astype(np.float32),
            "probability": np.linspace(0.4, 0.99, len(data), dtype=np.float32),
        },
        ("1 image was skipped",),
    )


def run(*results: TaskResult, name: str = "toy") -> RunReport:
    """A run of a model of this name."""
    environment = Environment("0.1.0", "3.11.0", {"numpy": "2.0"}, "Linux x86_64; a processor, 2 cores")
    model = ModelRecord(name, name[0] * 64, f"/models/{name}", "openvino CPU float32")
    return RunReport(model, environment, "2026-11-22T00:00:00Z", results)
