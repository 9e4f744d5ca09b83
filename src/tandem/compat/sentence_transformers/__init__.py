"""sentence-transformers over Tandem's engine: `SentenceTransformer("clip-ViT-B-32").encode(images or texts)`, `util`.

What is not covered is refused by name (docs/compat.md).
"""

from typing import Any

from tandem.compat.refusals import TRAIN, module_names
from tandem.compat.sentence_transformers import util
from tandem.compat.sentence_transformers.encoding import SentenceTransformer

__all__ = ["SentenceTransformer", "util"]

_find = module_names(
    __name__,
    {},
    {
        "CrossEncoder": "it reads pairs of texts: CLIP compares images with texts",
        "SparseEncoder": "vectors of CLIP are dense",
        "SentenceTransformerTrain": TRAIN,
        "InputExample": TRAIN,
        "losses": TRAIN,
        "models": "SentenceTransformer loads models whole",
        "": "SentenceTransformer and util are",
    },
)


def __getattr__(name: str) -> Any:
    return _find(name)
