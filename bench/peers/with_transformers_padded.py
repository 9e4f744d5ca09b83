"""transformers with texts padded to the model's whole context of 77 tokens, as the original and open_clip do."""

from with_transformers import PACKAGES, classify, prepare
from with_transformers import Peer as _Peer

CONTEXT = 77

__all__ = ["PACKAGES", "Peer", "classify", "prepare"]


class Peer(_Peer):
    def __init__(self, model: str, scratch: str, precision: str, threads: int) -> None:
        super().__init__(model, scratch, precision, threads)
        self.padding = {"padding": "max_length", "max_length": CONTEXT}
