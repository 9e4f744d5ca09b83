"""The folder of a quantised model, and its model card: what was measured of it, as Markdown."""

from pathlib import Path

from tandem import precisions, weights
from tandem.config import PROMISE
from tandem.quantize.quantizing import Quantized
from tandem.weights.card import model_card


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
    return f"It falls under what is promised, and is not called good: {', '.join(found.below_promise)}."


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
        ("best of " + f"{quantized.classes:,} labels, the source's", f"{found.top1:.1%} of {about.images:,} images"),
        ("ten nearest images, the source's", f"{found.neighbours:.1%}"),
        ("the same, asked of the source's vectors", f"{found.mixed_neighbours:.1%}"),
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
        "int8": "Weights and what they are multiplied with have eight bits",
        "int8-weights": "Weights have eight bits in the file, and in memory those of linear layers and embeddings; "
        "everything computes in floating point",
    }[about.method]
    spared = f" Spared: {', '.join(about.spared)}." if about.spared else ""
    settings = "".join(f" {tower} tower: {words}." for tower, words in quantized.settings.items())
    lines = [
        model_card(quantized.checkpoint.config, "tandem").rstrip(),
        "",
        "## Quantisation",
        "",
        f"{how}; made from {about.source} (fingerprint {about.source_fingerprint[:12]}). {len(about.spared)} of "
        f"{quantized.blocks} blocks keep the source's precision.{spared}{settings}",
        "",
        f"{verdict(quantized)} {mixing(quantized)}",
        "",
        "| measured on what was kept out of calibration | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows(quantized)),
        "",
        f"Images and texts: {quantized.samples}; {about.images:,} images and {about.texts:,} texts were kept out. "
        f"Speed: {quantized.processor}, while it was quantised.",
        "",
    ]
    return "\n".join(lines)
