"""The two towers side by side, with their learned temperature.

Shapes: n images or texts, t tokens, d the shared dimension, w the text width.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tandem.config import ModelConfig
from tandem.errors import WeightsError
from tandem.towers import tower_part

# What lies beside the text tower's tensors, which have no prefix, in a state dict
_NOT_OF_TEXT = ("visual.", "logit_scale", "logit_bias")


class CLIP(nn.Module):
    """An image tower, a text tower and `logit_scale` (Radford et al. 2021, 2.3), with `logit_bias` where there is one.

    In a state dict the names are the original's: `visual.` for the image tower, no prefix for the text tower. Nothing
    is initialised: see `initialise` and `from_arrays`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.visual: nn.Module = tower_part(config.vision, "module").Module(config.vision, config.embed_dim)
        self.text: nn.Module = tower_part(config.text, "module").Module(config.text, config.embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0)) if config.logit_bias else None
        self.register_state_dict_post_hook(_without_text)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_with_text)  # type: ignore[no-untyped-call]

    def scaling(self) -> list[nn.Parameter]:
        """What turns cosines into logits: learnt with the objective, unused in encoding."""
        return [each for each in (self.logit_scale, self.logit_bias) if each is not None]

    def encode_image(self, pixels: Tensor, kept: Tensor | None = None) -> Tensor:
        """pixels [n 3 H W], normalised by the preprocessing's mean and std -> [n d], not of unit length.

        kept [n k], of a Vision Transformer only: the patches that are looked at.
        """
        return self.visual(pixels) if kept is None else self.visual(pixels, kept)  # type: ignore[no-any-return]

    def encode_text(self, ids: Tensor) -> Tensor:
        """ids [n t] as the model's tokenizer makes them -> [n d], not of unit length."""
        return self.text(ids)  # type: ignore[no-any-return]

    def encode_packed(self, ids: Tensor, positions: Tensor, mask: Tensor, ends: Tensor) -> Tensor:
        """Causal texts that share rows -> [m d], not of unit length: see the text transformer's `forward_packed`."""
        return self.text.forward_packed(ids, positions, mask, ends)  # type: ignore[no-any-return, operator]

    def text_states(self, ids: Tensor, blocks: int, final_norm: bool) -> Tensor:
        """ids [n t] -> states of every token [n t w] after so many blocks."""
        return self.text.states(ids, [(blocks, final_norm)])[0]  # type: ignore[no-any-return, operator]

    def image_states(self, pixels: Tensor, blocks: int, final_norm: bool, projection: bool = False) -> Tensor:
        """pixels [n 3 H W], normalised -> states of every token or position [n p w] after so many blocks."""
        return self.visual.states(pixels, blocks, final_norm, projection)  # type: ignore[no-any-return, operator]

    def dense(self, pixels: Tensor) -> Tensor:
        """pixels [n 3 H W], normalised -> a vector for each patch or position [n p d], not of unit length."""
        return self.visual.dense(pixels)  # type: ignore[no-any-return, operator]


def _without_text(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}text.")]:
        state[prefix + name.removeprefix(f"{prefix}text.")] = state.pop(name)


def _with_text(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        inside = name.removeprefix(prefix)
        if not inside.startswith(_NOT_OF_TEXT):
            state[f"{prefix}text.{inside}"] = state.pop(name)


@torch.no_grad()
def initialise(model: CLIP, seed: int = 0) -> CLIP:
    """Draw every weight of `model` in place, reproducibly from `seed`, and return it.

    The scales are the original's (Radford et al. 2021, and the published code).
    """
    draw = torch.Generator().manual_seed(seed)
    for tower in (model.text, model.visual):
        tower.initialise(draw)  # type: ignore[operator]
    return model


def from_arrays(config: ModelConfig, tensors: Mapping[str, np.ndarray]) -> CLIP:
    """A float32 model in evaluation mode from arrays under the original's names.

    Raises `WeightsError` that names the first missing, surplus or misshapen tensor.
    """
    model = CLIP(config)
    # Copies, which the model then consists of: a file's arrays are read-only, and a second copy may be gigabytes
    state = {name: torch.from_numpy(np.array(array, dtype=np.float32)) for name, array in tensors.items()}
    expected = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    for name, tensor in expected.items():
        if name not in state:
            raise WeightsError(f"tensor {name}: missing, expected shape {tuple(tensor.shape)}")
        if state[name].shape != tensor.shape:
            raise WeightsError(f"tensor {name}: expected shape {tuple(tensor.shape)}, got {tuple(state[name].shape)}")
    surplus = sorted(set(state) - set(expected))
    if surplus:
        raise WeightsError(f"tensor {surplus[0]}: not part of this model ({len(surplus)} surplus tensors)")
    model.load_state_dict(state, strict=False, assign=True)
    return model.eval()


def to_arrays(model: CLIP) -> dict[str, np.ndarray]:
    """The model's weights and batch-norm statistics as float32 arrays under the original's names."""
    return {
        name: tensor.detach().float().cpu().numpy()
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
