"""The photos of `tandem demo` and what is on them, among the demo's labels as they were when it was first counted."""

from pathlib import Path

from tandem.cli.commands.demo import SHOWN
from tandem.model import Model
from tandem.sample_photos import sample_photos

# Not the command's own list: to change the demo's words must not change the question.
LABELS = ("cat", "dog", "person", "flower", "cup of coffee", "temple", "rocket", "car", "beach", "bird")


def measure(model: Model) -> dict[str, tuple[str, float]]:
    """The answer for each photo, and its probability."""
    photos = {Path(path).name: path for path in sample_photos("the demo's photos")}
    if missing := SHOWN.keys() - photos.keys():
        raise SystemExit(f"expected the photos {', '.join(sorted(missing))}: install scikit-image and scikit-learn")
    answer = model.classify([photos[name] for name in SHOWN], LABELS)
    best = answer.top(1)
    return {name: found[0] for name, found in zip(SHOWN, best, strict=True)}


def right(answers: dict[str, tuple[str, float]]) -> int:
    return sum(answers[name][0] == shown for name, shown in SHOWN.items())
