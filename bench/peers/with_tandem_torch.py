"""Tandem's engine of torch: what its other engine is compared with where no peer reads the weights."""

from typing import Any

import with_tandem
from with_tandem import classify, prepare

__all__ = ["PACKAGES", "Peer", "classify", "prepare"]
PACKAGES = ("tandem-clip", "torch")


class Peer(with_tandem.Peer):
    def __init__(self, model: str, scratch: str, precision: str, threads: int) -> None:
        import torch

        import tandem

        torch.set_num_threads(threads)
        self._model: Any = tandem.load(model, engine="torch", precision=precision)
