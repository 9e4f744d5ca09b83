"""Tandem with `fast_decode`: large JPEGs shrink while they are decoded, and vectors differ a little."""

from typing import Any

import with_tandem
from with_tandem import PACKAGES, classify, prepare

__all__ = ["PACKAGES", "Peer", "classify", "prepare"]


class Peer(with_tandem.Peer):
    def embed_files(self, paths: list[str], **options: bool) -> Any:
        return super().embed_files(paths, fast_decode=True)
