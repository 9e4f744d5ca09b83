"""What the models of every library share: where they are, what they weigh, and nothing that trains.

Knows devices, precisions and weights; no inputs, and no interface of one library.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from tandem.compat import arrays, loading, tensors
from tandem.compat.refusals import GRADIENTS, TRAIN, refuse, refuse_method
from tandem.model import Model
from tandem.weights.shapes import is_trained, parameter_count

_REFUSED = dict.fromkeys(("named_parameters", "zero_grad", "named_modules", "modules"), GRADIENTS) | {
    "state_dict": "tandem.load(...).tensors are the weights, as arrays",
    "load_state_dict": "weights come from the folder, file or name",
    "compile": "the engine compiles by itself",
}


class InferenceModel:
    """A model whose engine has no gradients. What it does not have is refused in the words of `refused`."""

    refused: ClassVar[Mapping[str, str]] = {}

    def __init__(self, model: Model) -> None:
        self._model = model

    def __repr__(self) -> str:
        return f"<tandem.compat {type(self).__name__} of {self._model!r}>"

    def __getattr__(self, name: str) -> Any:
        refuse_method(self, name, {**_REFUSED, **self.refused})

    @property
    def logit_scale(self) -> Any:
        """The logarithm of the factor of cosines."""
        return arrays.tensor(np.array(np.log(self._model.logit_scale), np.float32))

    @property
    def device(self) -> Any:
        return tensors.device_of(self._model.engine.device.lower())

    @property
    def dtype(self) -> Any:
        """Of its results, whatever the arithmetic is."""
        return tensors.float32()

    def parameters(self) -> Iterator[Any]:
        """The weights, to be counted and looked at: changes to them reach no engine, and they have no gradients."""
        for name, weights in self._model.tensors.items():
            if is_trained(name):
                yield arrays.tensor(np.array(weights))

    def num_parameters(self) -> int:
        """How many numbers the model has learnt."""
        return parameter_count(self._model.config)

    def eval(self) -> Any:
        return self

    def train(self, mode: bool = True) -> Any:
        if mode:
            refuse(f"{type(self).__name__}.train()", TRAIN)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        if requires_grad:
            refuse(f"{type(self).__name__}.requires_grad_()", GRADIENTS)
        return self

    def to(self, device: object = None, dtype: object = None) -> Any:
        """On "cpu" or, with torch, "cuda"; or in another precision. Changes and returns the model."""
        if device is not None and "float" in str(device):
            device, dtype = None, device
        engine = self._model.engine
        same = device is None or tensors.device_name(device) in (engine.device, engine.device.lower())
        if not (same and dtype in (None, engine.precision)):
            where = engine.device.lower() if same else device
            self._model = loading.on_device(self._model.checkpoint, where, engine.precision if dtype is None else dtype)
        return self

    def cpu(self) -> Any:
        return self.to("cpu")

    def cuda(self, device: int | None = None) -> Any:
        return self.to("cuda" if device is None else device)

    def float(self) -> Any:
        return self.to(dtype="float32")

    def bfloat16(self) -> Any:
        return self.to(dtype="bfloat16")
