"""The folder of a quantised model, and its model card: what was measured of it, as Markdown."""

from pathlib import Path

from tandem import precisions, weights
from tandem.config import LEAST_NEIGHBOURS, LEAST_TOP1, PROMISE
from tandem.quantize.agreement import standard_error
from tandem.quantize.quantizing import Quantized
from tandem.towers.blocks import TOWERS
from tandem.weights.card import model_card

_ENDS = {f"{tower} ends": f"the first and last layers of the {tower} tower" for tower in TOWERS}  # others are named


def write(quantized: Quantized, target: str | Path, *, overwrite: bool = False) -> Path:
    """Write the model as a folder, and return it; `tandem models --explain` will consider it from then on.

    Raises `WeightsError` where the folder is in use.
    """
    written = weights.write(quantized.checkpoint, target, overwrite=overwrite, card=card(quantized))
    precisions.remember_folder(quantized.quantization.source_fingerprint, written.resolve())
    return written


def verdict(quantized: Quantized) -> str:
    """Whether it keeps the promise, in a sentence."""
    found = quantized.agreement
    if found.is_good:
        return f"It agrees with its source as promised ({PROMISE})."
    said = f"It agrees less with its source than promised: {', '.join(found.below_promise)}."
    if not quantized.own_images:
        return f"{said} That was measured on sample pictures, which say little: give --images some hundred of yours."
    error = standard_error(LEAST_TOP1, quantized.quantization.images)
    if LEAST_TOP1 - error <= found.top1 < LEAST_TOP1 and found.neighbours >= LEAST_NEIGHBOURS:
        images = f"{quantized.quantization.images:,} images"
        return f"{said} That is within chance for {images} (a standard error is {error:.1%}): more of them would tell."
    return said


def mixing(quantized: Quantized) -> str:
    """Whether its vectors go with the source's, in a sentence."""
    source = quantized.quantization.source
    if quantized.quantization.mixes:
        return f"Collections of {source} take it beside their own model."
    return f"Collections of {source} do not take it: its vectors are for collections of its own."


def rows(quantized: Quantized) -> list[tuple[str, str]]:
    """What was measured, by name."""
    found, about = quantized.agreement, quantized.quantization
    listed = [
        (
            f"best of {quantized.classes:,} labels, the same as the source's",
            f"{found.top1:.1%} of {about.images:,} images",
        ),
        ("ten nearest images, the same as the source's", f"{found.neighbours:.1%}"),
        ("the same, for its queries among the source's vectors", f"{found.mixed_neighbours:.1%}"),
        ("cosine to the source, least / mean", f"{found.least_cosine:.4f} / {found.mean_cosine:.4f}"),
    ]
    if quantized.accuracy is not None:
        before, after = quantized.accuracy
        chance = 1 / quantized.classes
        listed.append(("zero-shot accuracy, source / this", f"{before:.1%} / {after:.1%} (by chance {chance:.1%})"))
    for name, (before, after) in quantized.speeds.items():
        listed.append((f"{name}, source in float32 / this", f"{before:,.0f} / {after:,.0f} ({after / before:.1f}x)"))
    before, after = quantized.bytes
    listed.append(("size, source / this", f"{before / 1e6:,.1f} / {after / 1e6:,.1f} MB"))
    return listed


def card(quantized: Quantized) -> str:
    """The whole README.md: the usual card, and what was measured."""
    about = quantized.quantization
    how = {
        "int8": "Weights, and the inputs of linear layers and convolutions, have eight bits",
        "int8-weights": "Weights have eight bits in the file; in memory, those of linear layers and embeddings do",
    }[about.method]
    kept = (
        f" Kept in float32: {', '.join(_ENDS.get(block, block) for block in about.float32_blocks)}."
        if about.float32_blocks
        else ""
    )
    settings = "".join(f" {tower} tower: {words}." for tower, words in quantized.settings.items())
    settings += "" if quantized.searched else " Every block was quantized with the default settings (--no-search)."
    lines = [
        model_card(quantized.checkpoint.config, "tandem").rstrip(),
        "",
        "## Quantization",
        "",
        f"{how}; made from {about.source} (fingerprint {about.source_fingerprint[:12]}). "
        f"{len(about.float32_blocks)} of {quantized.blocks} blocks stay in float32.{kept}{settings}",
        "",
        f"{verdict(quantized)} {mixing(quantized)}",
        "",
        "| on held-out images and texts | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows(quantized)),
        "",
        f"Images and texts: {quantized.samples}; {about.images:,} images and {about.texts:,} texts were held out. "
        f"Speed: on {quantized.processor}, measured during quantization.",
        "",
    ]
    return "\n".join(lines)
