"""The states of a text tower by torch: of a whole model's, or of one that stands alone.

Shapes: n texts, t tokens, w width, l layers, m embeddings that are added.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tandem.config import TextTower
from tandem.engine.inputs import check_added, check_text_layers, check_token_ids
from tandem.engine.torch_device import autocast, lower, to_device, torch_device, torch_precision
from tandem.towers import tower_part
from tandem.towers.parts.tensors import Tensors

_BATCH_TEXTS = 32


class TorchTextEngine:
    """Implements `TextEngine` over the module of a text tower, which is in evaluation mode and on its device."""

    name = "torch"

    def __init__(self, text: TextTower, module: nn.Module, device: torch.device, precision: str) -> None:
        self.text = text
        self.device = str(device)
        self.precision = precision
        self._device, self._module = device, module

    @classmethod
    def from_arrays(
        cls, text: TextTower, embed_dim: int, tensors: Tensors, device: str | None, precision: str = "auto"
    ) -> "TorchTextEngine":
        """That of a text tower alone. Its tensors were checked when they were read."""
        place = torch_device(device)
        module: nn.Module = tower_part(text, "module").Module(text, embed_dim)
        # Copies, which the module then consists of: a file's arrays are read-only
        state = {name: torch.from_numpy(np.array(tensors[name], dtype=np.float32)) for name in tensors}
        module.load_state_dict(state, strict=False, assign=True)  # a tower may have no projection
        chosen = torch_precision(place, precision)
        module = module.eval().to(place)
        lower(module, chosen)
        return cls(text, module, place, chosen)

    def hidden_states(
        self,
        token_ids: NDArray[np.int32],
        layers: Sequence[int],
        *,
        norm: bool | None = None,
        added: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """The state of every token at each of the layers, float32 [l n t w]; see `TextEngine.hidden_states`."""
        added = check_added(added, self.text.width)
        token_ids = check_token_ids(token_ids, self.text, 0 if added is None else len(added))
        wanted = check_text_layers(self.text, layers, norm)
        states = np.empty((len(wanted), *token_ids.shape, self.text.width), np.float32)
        new = None if added is None or not len(added) else to_device(added, self._device)
        with torch.inference_mode(), autocast(self._device, self.precision):
            for start in range(0, len(token_ids), _BATCH_TEXTS):
                part = slice(start, start + _BATCH_TEXTS)
                ids = to_device(token_ids[part], self._device).long()
                found = self._module.states(ids, wanted, new)  # type: ignore[operator]
                for row, each in zip(states, found, strict=True):
                    row[part] = each.float().cpu().numpy()
        return states

    def release(self) -> None:
        """Do nothing: the weights on the device are all there is."""
