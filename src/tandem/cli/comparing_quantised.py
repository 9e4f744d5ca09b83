"""What `tandem verify` asks of a quantised model beside its source: equal settings, and weights that are the source's,
rounded. Vectors alone cannot tell: eight bits move them as far as a wrong activation does.
"""

from collections.abc import Iterator

from tandem.config import Quantization
from tandem.model import Model
from tandem.quantize.building import mismatched_tensors

# Measured with tandem-mini (first edition), every block rounded: 0.973 on generated images, 0.994 on photos; weights
# alone: 0.9998
LEAST_COSINES = {"int8": 0.95, "int8-weights": 0.99}


def made_from(other: Model, reference: Model) -> Quantization | None:
    """What the other model says of itself, where it is a quantised model of the reference."""
    about = other.config.quantization
    return about if about is not None and about.source_fingerprint == reference.fingerprint else None


def how_judged(about: Quantization, names: tuple[str, str]) -> str:
    """In a sentence what is asked, and what is not. `names` are what the source and the quantised model are called."""
    asked = f"the source's settings, its weights rounded, and cosines from {LEAST_COSINES[about.method]:g}"
    measured = f"tandem quantize measured on {about.images:,} images: {about.figures}"
    good = "" if about.is_good else f"; less than promised: {', '.join(about.below_promise)}"
    return f"{names[1]} is {about.method} of {names[0]}: asked are {asked}. How well it agrees, {measured}{good}"


def other_weights(source: Model, made: Model) -> Iterator[str]:
    """The weights of a quantised model that are not what rounding the source's gives: how many, and one of them."""
    found = mismatched_tensors(source.checkpoint.stored, made.checkpoint.stored)
    if found:
        yield f"{len(found)} of {len(made.tensors)} tensors are not the source's, rounded or as they are: {found[0]}"
