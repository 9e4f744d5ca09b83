"""A model at rest: weights, configuration and tokenizer together, and the fingerprint of all three.

Knows no file format.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tandem.config import Activation, ModelConfig, to_dict
from tandem.towers.parts.int8 import stored

if TYPE_CHECKING:
    from tandem.tokenizer import Tokenizer

# Of a configuration: what changes no vector
NOT_FINGERPRINTED = ("name", "licence", "data", "notes", "timm_model", "quantization", "format", "version")


@dataclass(frozen=True)
class Checkpoint:
    """What must match travels together. Tensors are under the original names, in the dtype they are stored in."""

    config: ModelConfig
    tensors: Mapping[str, np.ndarray]
    tokenizer: "Tokenizer"
    source: str  # where it was read from, as messages say it

    @property
    def stored(self) -> Mapping[str, np.ndarray]:
        """The arrays as a file holds them: of quantised tensors int8, scales and ranges."""
        return stored(self.tensors)


def fingerprint(checkpoint: Checkpoint) -> str:
    """Hex SHA-256 over the weights (name, dtype, shape, bytes), the configuration and the tokenizer.

    Name, licence, data and notes do not count: they change no vector. Order of the tensors does not either.
    """
    digest = hashlib.sha256()
    plain = {key: value for key, value in to_dict(checkpoint.config).items() if key not in NOT_FINGERPRINTED}
    digest.update(json.dumps(plain, sort_keys=True).encode())
    digest.update(b"\0" + checkpoint.tokenizer.to_json().encode() + b"\0")
    tensors = checkpoint.stored
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype.name} {list(array.shape)}\0".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def with_activation(config: ModelConfig, activation: Activation) -> ModelConfig:
    """The same model with this activation in both towers: no note is left about a missing one, one about another.

    Towers that have none to choose, or whose architecture names it, stay as they are.
    """
    notes = {key: note for key, note in config.notes.items() if key != "activation"}
    towers: dict[str, Any] = {"vision": config.vision, "text": config.text}
    changed = {
        name: dataclasses.replace(tower, activation=activation)
        for name, tower in towers.items()
        if hasattr(tower, "activation") and getattr(tower, "activation_may_be_assumed", True)
    }
    stated = [towers[name].activation for name in changed if towers[name].activation != activation]
    if "activation" not in config.notes and stated:
        notes["activation"] = f"computing with {activation}, as asked, although the model states {stated[-1]}"
    return dataclasses.replace(config, **changed, notes=notes)


CANNOT_BUILD = "Tandem cannot build that (docs/families.md lists what it can)"  # of a field, in messages


def activation_note(source: str, assumed: Activation, reason: str) -> str:
    """The warning where a checkpoint does not name its activation."""
    other = "gelu" if assumed == "quick_gelu" else "quick_gelu"
    return (
        f"{source} does not name its activation: {assumed} is assumed, {reason}. The wrong one costs accuracy "
        f"without any other sign; if it was trained with {other}, choose that "
        f"(--activation {other}; in Python activation={other!r})"
    )
