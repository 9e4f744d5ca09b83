"""The states of a text tower by OpenVINO: of a whole model's, or of one that stands alone. No torch, no image tower.

Shapes: n texts, t tokens, w width, l layers, m embeddings that are added.
"""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tandem.config import TextTower
from tandem.engine.compiled import CompiledGraph, device_name, precision_name
from tandem.engine.inputs import check_added, check_text_layers, check_token_ids, padded
from tandem.engine.memory import mappings
from tandem.towers.parts.description import Wanted
from tandem.towers.parts.int8 import WithoutRanges
from tandem.towers.parts.tensors import Tensors, stored_arrays

_BATCH_TEXTS = 32  # bounds the memory of a call


class OpenVinoTextEngine:
    """Implements `TextEngine`. A graph is compiled for each set of layers that is asked for."""

    name = "openvino"

    def __init__(self, text: TextTower, tensors: Tensors, device: str | None = None, precision: str = "auto") -> None:
        self.text = text
        self.device = device_name(device)
        self.precision = precision_name(self.device, precision, tensors)
        self._tensors = tensors  # the graphs' constants share its memory
        self._mapped = mappings(stored_arrays(tensors))
        self._graphs: dict[tuple[tuple[tuple[int, bool], ...], bool], CompiledGraph] = {}
        self._lock = threading.Lock()

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
        tokens, ids = token_ids.shape[1], padded(token_ids, self.text)
        states = np.empty((len(wanted), *token_ids.shape, self.text.width), np.float32)
        if added is not None and not len(added):
            added = None
        graph = self._graph(wanted, added is not None) if len(ids) else None
        for start in range(0, len(ids), _BATCH_TEXTS):
            assert graph is not None
            part = slice(start, start + _BATCH_TEXTS)
            rows = np.ascontiguousarray(ids[part])
            states[:, part] = (graph(rows) if added is None else graph(rows, added))[:, :, :tokens]
        return states

    def release(self) -> None:
        """Give back the memory of the compiled graphs. One that is needed again is compiled again."""
        with self._lock:
            self._graphs.clear()

    def _graph(self, wanted: Wanted, with_added: bool) -> CompiledGraph:
        from tandem.engine.graph import text_states_graph

        key = (tuple(wanted), with_added)
        with self._lock:
            if key not in self._graphs:
                self._graphs[key] = CompiledGraph(
                    lambda: text_states_graph(self.text, WithoutRanges(self._tensors), wanted, with_added),
                    self.device,
                    self.precision,
                    self._mapped,
                )
            return self._graphs[key]
