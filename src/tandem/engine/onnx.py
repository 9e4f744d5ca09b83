"""Both towers as ONNX graphs, for runtimes that are not ours. The export is torch's own; the mathematics is in `nn`.

The graphs take what engines take: `image.onnx` uint8 pixels [n h w 3] -> unit vectors [n d], mean and std inside;
`text.onnx` int64 token ids [n t] as the tokenizer makes them -> unit vectors [n d]. n is free, and t where padding does
not reach the vectors.
"""

import io
import logging
import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tandem.config import ModelConfig
from tandem.nn import CLIP, from_arrays

LARGEST_FILE_BYTES = 1_800_000_000  # one protobuf holds 2 GB: weights of larger towers go into a file beside it


class ImageGraph(nn.Module):
    """uint8 pixels [n h w 3] -> unit vectors [n d]."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: CLIP, config: ModelConfig) -> None:
        super().__init__()
        self.tower = model.visual
        channels_first = (1, -1, *(1,) * (len(config.preprocessing.pixel_shape) - 1))
        for name, values in zip(("mean", "std"), config.preprocessing.normalisation, strict=True):
            self.register_buffer(name, 255 * torch.tensor(values).reshape(channels_first))

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels.movedim(-1, 1).float()  # [n h w 3] -> [n 3 h w]
        return functional.normalize(self.tower((x - self.mean) / self.std), dim=1)


class TextGraph(nn.Module):
    """Token ids [n t] -> unit vectors [n d]."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, token_ids: Tensor) -> Tensor:
        return functional.normalize(self.model.encode_text(token_ids), dim=1)


def save_onnx(config: ModelConfig, tensors: Mapping[str, NDArray[np.generic]], folder: Path) -> None:
    """Write image.onnx and text.onnx into a folder that is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    model = from_arrays(config, tensors)
    save_image_graph(config, model, folder / "image.onnx")
    save_text_graph(config, model, folder / "text.onnx")


def save_image_graph(config: ModelConfig, model: CLIP, path: Path) -> None:
    """Write the graph of the image tower."""
    pixels = torch.ones((2, *config.preprocessing.pixel_shape), dtype=torch.uint8)
    _export(ImageGraph(model, config), pixels, "pixels", {0: torch.export.Dim("n", min=1)}, path)


def save_text_graph(config: ModelConfig, model: CLIP, path: Path) -> None:
    """Write the graph of the text tower."""
    text, free = config.text, {0: torch.export.Dim("n", min=1)}
    if text.fixed_length:
        ids = torch.full((2, text.context_length), text.pad_id)
    else:
        ids = torch.full((2, 9), text.end_id or 0)
        free[1] = torch.export.Dim("t", min=2, max=text.context_length)
    _export(TextGraph(model), ids, "token_ids", free, path)


def _export(graph: nn.Module, example: Tensor, name: str, free: dict[int, Any], path: Path) -> None:
    weight_bytes = sum(parameter.numel() * 4 for parameter in graph.parameters())
    # The exporter prints and warns; the output belongs to the caller.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        # Weights that want gradients are traced for them, too. Towers say `shape[0]`: `len()` would fix the batch.
        program = torch.export.export(graph.eval().requires_grad_(False), (example,), dynamic_shapes=(free,))
        torch.onnx.export(
            program,
            (),
            str(path),
            input_names=[name],
            output_names=["vectors"],
            dynamo=True,
            external_data=weight_bytes > LARGEST_FILE_BYTES,
        )
