"""Writes a checkpoint to a folder of any format: completely or not at all, and never over anything but a model.

The formats themselves are `folder`, `transformers` and `open_clip`; folders of graphs are replaced by the same rules.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, get_args

from tandem.errors import WeightsError
from tandem.files import atomic_folder, user_path
from tandem.weights.card import model_card
from tandem.weights.checkpoint import Checkpoint
from tandem.weights.quantized import refuse_quantized
from tandem.weights.shapes import check_tensors

FolderFormat = Literal["tandem", "transformers", "open_clip"]

# The files of all formats, folders of graphs included: only a folder with no other files is replaced.
_MODEL_FILES = {
    *("image.xml", "image.bin", "text.xml", "text.bin"),
    *("image.onnx", "image.onnx.data", "text.onnx", "text.onnx.data"),
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "README.md",
    "relevance.json",
    "preprocessor_config.json",
    "processor_config.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "open_clip_config.json",
    "hf_text_config.json",
    "open_clip_model.safetensors",
}


def write(
    checkpoint: Checkpoint,
    target: Path | str,
    to: FolderFormat = "tandem",
    *,
    overwrite: bool = False,
    card: str | None = None,
) -> Path:
    """Write a model folder and return it. Tensors keep every bit. `card` replaces the generated README.md.

    The folder appears complete or not at all. Raises `WeightsError` where `target` is in use (unless `overwrite`, for
    a folder that holds nothing but a model) and for a model that the format cannot describe.
    """
    if to not in get_args(FolderFormat):
        raise WeightsError(f"cannot write {to!r}: expected one of {', '.join(get_args(FolderFormat))}")
    if to != "tandem":
        refuse_quantized(checkpoint, f"the format {to}")
    check_tensors(checkpoint.tensors, checkpoint.config, checkpoint.source)
    target = user_path(target).resolve()
    with new_folder(target, overwrite=overwrite) as new:
        _writer(to)(checkpoint, new)
        (new / "README.md").write_text(card or model_card(checkpoint.config, to), encoding="utf-8")
    return target


def _writer(to: FolderFormat) -> Callable[[Checkpoint, Path], None]:
    # Here: loading a model imports this module, too.
    from tandem.weights import folder, open_clip, transformers

    return {"tandem": folder.write, "transformers": transformers.write, "open_clip": open_clip.write}[to]


@contextlib.contextmanager
def new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """An empty folder to write a model's files to. It becomes `target` if the block succeeds, else it is removed."""
    refuse_in_use(target, overwrite=overwrite)
    try:
        with atomic_folder(target) as new:
            yield new
    except OSError as error:
        raise WeightsError(f"{target}: cannot be written: {error.strerror or error}") from None


def refuse_in_use(target: Path, *, overwrite: bool, say: str = "overwrite=True") -> None:
    """Raise `WeightsError` where `target` must not be overwritten; `say` is how the user can ask for that."""
    if not target.exists():
        return
    if not target.is_dir():
        raise WeightsError(f"{target}: expected a folder to write to, got a file")
    present = sorted(entry.name for entry in target.iterdir())
    if present and not overwrite:
        raise WeightsError(f"{target}: the folder is not empty; choose another, or say {say}")
    strangers = [name for name in present if name not in _MODEL_FILES]
    if strangers:
        raise WeightsError(f"{target}: not overwritten: {strangers[0]} is not part of a model; choose another folder")
