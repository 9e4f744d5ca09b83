"""Reading and writing checkpoints: everybody's formats in, three layouts out, nothing in a file executed.

`read` takes a folder, a file, a published name or a hub name; `write` makes a folder. Tensors are numpy arrays under
the original's names. Needs no torch. It knows no engine.
"""

from tandem.weights.checkpoint import Checkpoint, fingerprint
from tandem.weights.published import KnownModel, known_models
from tandem.weights.reading import read, read_tensors
from tandem.weights.shapes import check_tensors, config_from_shapes, expected_shapes, parameter_count
from tandem.weights.writing import FolderFormat, write

__all__ = [
    "Checkpoint",
    "FolderFormat",
    "KnownModel",
    "check_tensors",
    "config_from_shapes",
    "expected_shapes",
    "fingerprint",
    "known_models",
    "parameter_count",
    "read",
    "read_tensors",
    "write",
]
