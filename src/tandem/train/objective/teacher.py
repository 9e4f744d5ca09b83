"""A sentence encoder whose vectors the text encoder learns from (Hinton et al. 2015; Reimers and Gurevych 2019).

Its vectors are computed once for every text of a run and kept in a file; the steps themselves never need the teacher.

Shapes: m texts, e the teacher's width.
"""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tandem import files
from tandem.errors import DataError, MissingExtraError
from tandem.processor import emulates_bfloat16
from tandem.train.parallel.process import split_ranges

TEMPLATE = "a photo of a {}."


@dataclass(frozen=True)
class TeacherTargets:
    """The teacher's vectors of every text of the run, and texts of the teacher's own vocabulary, learnt beside them."""

    by_text: dict[str, np.ndarray]  # unit vectors [e]
    extra: list[str]
    per_batch: int  # extra texts of a step, of all processes
    seed: int
    rank: int = 0
    processes: int = 1

    @property
    def width(self) -> int:
        """The teacher's dimension."""
        return len(next(iter(self.by_text.values())))

    def words(self, step: int) -> list[str]:
        """This process's share of the extra texts of a step."""
        every = sample_words(self.extra, self.per_batch, self.seed, step)
        return every[split_ranges(self.per_batch, self.processes)[self.rank]]

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors float32 [m e]."""
        found = [self.by_text[text] for text in texts]
        rows = np.stack(found) if found else np.empty((0, self.width), np.float16)
        return F.normalize(torch.from_numpy(rows).float(), dim=-1)


def sample_words(words: Sequence[str], count: int, seed: int, step: int) -> list[str]:
    """The extra texts of a step, of all processes."""
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


def words(teacher: str, cache: Path) -> list[str]:
    """The whole words of the teacher's vocabulary, as texts: half of them bare, half in a template.

    The file `cache` may have them: a machine without the teacher then needs it no more.
    """
    if cache.exists():
        with np.load(cache) as stored:
            if "words" in stored:
                return stored["words"].tolist()  # type: ignore[no-any-return]
    vocabulary = (locate(teacher) / "vocab.txt").read_text(encoding="utf-8").split()
    plain = [word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2]
    return [word if i % 2 else TEMPLATE.format(word) for i, word in enumerate(plain)]


def vectors(teacher: str, texts: Sequence[str], cache: Path, extra: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Text -> unit vector [e] float16; what the file `cache` has is read from it, the rest is computed and added.

    extra: the teacher's own words, which are kept in the file beside the texts.
    """
    known: dict[str, np.ndarray] = {}
    has_words = not extra
    if cache.exists():
        with np.load(cache) as stored:
            has_words = has_words or "words" in stored
            texts_key = "texts" if "texts" in stored else "sentences"  # its name before the first release
            known = dict(zip(stored[texts_key].tolist(), stored["vectors"], strict=True))
    new = [text for text in dict.fromkeys([*texts, *extra]) if text not in known]
    if new:
        known.update(zip(new, _encode(locate(teacher), new), strict=True))
    if new or not has_words:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_write(cache) as temporary, temporary.open("wb") as file:  # savez adds a suffix to a path
            arrays: dict[str, Any] = {"texts": np.array(list(known)), "vectors": np.stack(list(known.values()))}
            if extra:
                arrays["words"] = np.array(extra)
            np.savez(file, **arrays)
    return known


def _encode(folder: Path, texts: list[str], batch_size: int = 256) -> np.ndarray:
    """The mean over a text's token states, to unit length: what sentence-transformers models are trained for."""
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError:
        raise MissingExtraError("transformers", "mini", "distillation") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModel.from_pretrained(folder).eval()
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: no sentence encoder: {str(error).splitlines()[0]}") from None
    by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out: np.ndarray | None = None
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=not emulates_bfloat16()):
        for start in range(0, len(texts), batch_size):
            rows = by_length[start : start + batch_size]
            tokens = tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
            states = model(**tokens).last_hidden_state.float()  # [n t e]
            mask = tokens["attention_mask"][:, :, None]
            means = F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
            if out is None:
                out = np.empty((len(texts), means.shape[1]), np.float16)
            out[rows] = means.numpy()
            if start // batch_size % 20 == 0:
                print(f"teacher: {start} of {len(texts)} texts", file=sys.stderr, flush=True)
    assert out is not None
    return out
