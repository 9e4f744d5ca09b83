"""A sentence encoder whose vectors the text encoder learns from (Hinton et al. 2015; Reimers and Gurevych 2019).

Its vectors are computed once for every sentence of a run and kept in a file: the run itself never needs the teacher.
"""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tandem.errors import DataError, MissingExtraError
from tandem.train.parallel.process import shares

TEMPLATE = "a photo of a {}."


@dataclass(frozen=True)
class Lessons:
    """The teacher's vectors of every sentence of the run, and words of its own to teach beside them."""

    known: dict[str, np.ndarray]  # unit vectors [e]
    extra: list[str]
    per_batch: int  # words of a step, of all processes
    seed: int
    rank: int = 0
    processes: int = 1

    @property
    def width(self) -> int:
        """The teacher's dimension."""
        return len(next(iter(self.known.values())))

    def words(self, step: int) -> list[str]:
        """This process's share of the extra sentences of a step."""
        return drawn_words(self.extra, self.per_batch, self.seed, step)[
            shares(self.per_batch, self.processes)[self.rank]
        ]

    def vectors(self, sentences: Sequence[str]) -> Tensor:
        """Unit vectors float32 [m e]."""
        found = [self.known[sentence] for sentence in sentences]
        rows = np.stack(found) if found else np.empty((0, self.width), np.float16)
        return F.normalize(torch.from_numpy(rows).float(), dim=-1)


def drawn_words(words: Sequence[str], count: int, seed: int, step: int) -> list[str]:
    """The extra sentences of a step, of all processes."""
    draw = np.random.default_rng((seed, step, 1))
    return [words[i] for i in draw.integers(len(words), size=count)] if count else []


def locate(teacher: str) -> Path:
    """The folder of a teacher: a path, or the folder `model` of an installed package (`-` as `_`)."""
    if Path(teacher).is_dir():
        return Path(teacher)
    spec = importlib.util.find_spec(teacher.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise MissingExtraError(teacher, "mini", "distillation")
    return Path(spec.origin).parent / "model"


def words(teacher: str) -> list[str]:
    """The whole words of the teacher's own vocabulary, as sentences: half of them bare, half in a template."""
    vocabulary = (locate(teacher) / "vocab.txt").read_text(encoding="utf-8").split()
    plain = [word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2]
    return [word if i % 2 else TEMPLATE.format(word) for i, word in enumerate(plain)]


def vectors(teacher: str, sentences: Sequence[str], cache: Path) -> dict[str, np.ndarray]:
    """Unit vectors [e] float16 of the sentences by sentence, from the file `cache` as far as they are there."""
    known: dict[str, np.ndarray] = {}
    if cache.exists():
        with np.load(cache) as stored:
            known = dict(zip(stored["sentences"].tolist(), stored["vectors"], strict=True))
    new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in known]
    if new:
        known.update(zip(new, _encode(locate(teacher), new), strict=True))
        cache.parent.mkdir(parents=True, exist_ok=True)
        part = cache.with_suffix(".part.npz")
        np.savez(part, sentences=np.array(list(known)), vectors=np.stack(list(known.values())))
        part.replace(cache)
    return known


def _encode(folder: Path, sentences: list[str], batch_size: int = 256) -> np.ndarray:
    """The mean over a sentence's token states, to unit length: what sentence-transformers models are trained for."""
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
    except ImportError:
        raise MissingExtraError("transformers", "mini", "distillation") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModel.from_pretrained(folder).eval()
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: no sentence encoder: {str(error).splitlines()[0]}") from None
    by_length = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    out: np.ndarray | None = None
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(sentences), batch_size):
            rows = by_length[start : start + batch_size]
            tokens = tokenizer([sentences[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
            states = model(**tokens).last_hidden_state.float()  # [n t e]
            mask = tokens["attention_mask"][:, :, None]
            means = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
            if out is None:
                out = np.empty((len(sentences), means.shape[1]), np.float16)
            out[rows] = means.numpy()
            if start // batch_size % 20 == 0:
                print(f"teacher: {start} of {len(sentences)} sentences", file=sys.stderr, flush=True)
    assert out is not None
    return out
