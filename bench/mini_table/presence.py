"""Whether what was asked for is there: the area of relevance of searches with matches against the same without.

As bench/relevance.py has it: the calibration is fitted on Flickr8k dev and measured on test, or to choose by, fitted on
one half of dev and measured on the other.
"""

from pathlib import Path
from typing import Any

from tandem.model import Model
from tandem.search.calibration.calibrate import calibrate
from tandem.search.calibration.caption_set import CaptionSet, choose, embed, read_captioned

AMONG = "100"


def measure(model: Model, data: Path, split: str) -> dict[str, Any]:
    """Figures by query (captions, phrases) among 100 pictures; their names are those of a calibration's report."""
    dev = _captions(model, data / "flickr8k/dev-00000.tar")
    fitted, tested = dev.halves() if split == "dev" else (dev, _captions(model, data / "flickr8k/test-00000.tar"))
    figures = calibrate(model.name, model.fingerprint, fitted, tested).figures["queries"]
    return {name: figures[name]["collections"][AMONG] for name in ("captions", "phrases")}


def _captions(model: Model, path: Path) -> CaptionSet:
    captions, failures = embed(model, choose(read_captioned([path])))
    if failures:
        raise SystemExit(f"{path}: {len(failures)} pictures cannot be read")
    return captions
