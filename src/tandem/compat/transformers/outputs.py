"""What models of transformers give: outputs by name, whose states are computed when they are asked for.

Knows names, layers and tensors; no model of transformers, and no arithmetic.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tandem.compat.refusals import refuse_method

Later = Callable[[], Any]
_INSTEAD = {
    "attentions": "attention weights do not leave the engine; `tandem locate` shows where in a picture something is",
    "loss": "`tandem train` trains; gradients do not pass through Tandem's engine",
}


class ModelOutput(Mapping[str, Any]):
    """Values by name, as attributes, or by position in their order. Those that are functions are called once."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            refuse_method(self, name, _INSTEAD)
        return self[name]

    def __getitem__(self, key: str | int | slice) -> Any:
        if not isinstance(key, str):
            names = list(self._values)[key]
            return self[names] if isinstance(names, str) else tuple(map(self.__getitem__, names))
        value = self._values[key]
        if callable(value) and not hasattr(value, "shape"):
            self._values[key] = value = value()
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<ModelOutput: {', '.join(self._values)}>"

    def to_tuple(self) -> tuple[Any, ...]:
        """The values in order."""
        return self[:]  # type: ignore[no-any-return]


class HiddenStates(Sequence[Any]):
    """The states after each layer, the embedding first. Only those that are asked for are computed."""

    def __init__(self, layers: int, after: Callable[[int], Any]) -> None:
        self._layers = layers
        self._after = after

    def __len__(self) -> int:
        return self._layers + 1

    def __getitem__(self, index: Any) -> Any:
        wanted = range(len(self))[index]
        return self._after(wanted) if isinstance(wanted, int) else tuple(map(self._after, wanted))
