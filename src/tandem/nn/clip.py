"""The two towers side by side, with their learned temperature.

Shapes: n images or texts, t tokens, d the shared dimension, w the text width.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tandem.config import ModelConfig, VisionTransformer
from tandem.errors import WeightsError
from tandem.nn.resnet import ResNetTower
from tandem.nn.transformer import TextTower, VisionTower


class CLIP(TextTower):
    """An image encoder under `visual`, a text encoder at the root, and `logit_scale` (Radford et al. 2021, 2.3).

    Its parameters have the original's names. They are not initialised: see `nn.initialise` and `from_arrays`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.text, config.embed_dim)
        self.config = config
        vision = config.vision
        self.visual: nn.Module
        if isinstance(vision, VisionTransformer):
            self.visual = VisionTower(vision, config.embed_dim)
        else:
            self.visual = ResNetTower(vision, config.embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_image(self, pixels: Tensor, kept: Tensor | None = None) -> Tensor:
        """pixels [n 3 H W], normalised by the preprocessing's mean and std -> [n d], not of unit length.

        kept [n k], of a Vision Transformer only: the patches that are looked at.
        """
        return self.visual(pixels) if kept is None else self.visual(pixels, kept)  # type: ignore[no-any-return]

    def encode_text(self, ids: Tensor) -> Tensor:
        """ids [n t] with start and end tokens -> [n d], not of unit length; read at the first end token."""
        ends = (ids == self.end_id).int().argmax(dim=1) + torch.arange(len(ids), device=ids.device) * ids.shape[1]
        return self._project(self.transformer(self._embed(ids), causal=True, chosen=ends))

    def encode_packed(self, ids: Tensor, positions: Tensor, mask: Tensor, ends: Tensor) -> Tensor:
        """Texts that share rows -> [m d], not of unit length.

        ids [r t]; positions [r t]: the position of each token in its text; mask [r 1 t t]: True where it may look;
        ends [m]: the end token of each text, an index into r*t.
        """
        x = self.token_embedding(ids) + self.positional_embedding[positions]
        return self._project(self.transformer(x, causal=True, mask=mask, chosen=ends))

    def _project(self, x: Tensor) -> Tensor:
        return self.ln_final(x) @ self.text_projection.to(x.dtype)  # type: ignore[no-any-return]

    def text_states(self, ids: Tensor, layer: int = -1) -> Tensor:
        """ids [n t] -> states of every token [n t w] after `layer` blocks; -1: after all of them and the last norm."""
        if layer == -1:
            return self.ln_final(self.transformer(self._embed(ids), causal=True))  # type: ignore[no-any-return]
        depth = layer if layer >= 0 else layer + 1 + len(self.transformer.resblocks)
        return self.transformer(self._embed(ids), causal=True, depth=depth)  # type: ignore[no-any-return]

    def _embed(self, ids: Tensor) -> Tensor:
        return self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]  # type: ignore[no-any-return]


def from_arrays(config: ModelConfig, tensors: Mapping[str, np.ndarray]) -> CLIP:
    """A float32 model in evaluation mode from arrays under the original's names.

    Raises `WeightsError` that names the first missing, surplus or misshapen tensor.
    """
    model = CLIP(config)
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
    model.load_state_dict(state, strict=False)
    return model.eval()


def to_arrays(model: CLIP) -> dict[str, np.ndarray]:
    """The model's weights and batch-norm statistics as float32 arrays under the original's names."""
    return {
        name: tensor.detach().float().cpu().numpy()
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
