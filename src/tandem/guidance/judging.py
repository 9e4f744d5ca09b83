"""A picture's rank among texts, from views that guidance never takes: a crop and a blur of their own, through the
model's own preprocessing and engine. Knows no torch.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from tandem.arrays import Vectors
from tandem.errors import TandemError
from tandem.guidance.history import Judged
from tandem.model import Model

VIEWS = 4  # crops that a judgement averages: one of them alone is a matter of luck
CROP = 0.9  # of each side
BLUR = 1 / 128  # deviation, as a share of the shorter side: mild
_SEED = 20_261  # of the crops; guidance draws from torch's generator, so no view of its own is among them


class Judge:
    """Ranks the first goal among texts. `prompt` None: there is no text, only the similarity with `vector` [d]."""

    def __init__(self, model: Model, prompt: str | None, vector: Vectors, others: Sequence[str]) -> None:
        # One text, written differently, is no rival of itself.
        own = (prompt or "").casefold().strip(" .")
        rivals = [text for text in dict.fromkeys(others) if text.casefold().strip(" .") != own]
        if prompt is not None and not rivals:
            raise TandemError("among: expected at least one other text to rank the prompt among")
        self.model, self.vector = model, vector
        self.texts: tuple[str, ...] = () if prompt is None else (prompt, *rivals)
        self._vectors = np.concatenate([vector[None], model.embed_texts(rivals)])

    def __call__(self, image: Image.Image, step: int = 0) -> Judged:
        """Judge the mean of a few views of an RGB image."""
        mean = self.model.embed_images(held_out_views(image)).mean(axis=0)
        mean /= max(float(np.linalg.norm(mean)), 1e-12)
        if not self.texts:
            return Judged(step, float(mean @ self.vector), None, 0, "")
        cosines = self._vectors @ mean  # [1+rivals]
        rank = 1 + int((cosines[1:] >= cosines[0]).sum())  # what is as near counts against the prompt
        return Judged(step, float(cosines[0]), rank, len(cosines), self.texts[int(cosines.argmax())])


def held_out_views(image: Image.Image, count: int = VIEWS) -> list[Image.Image]:
    """Crops of nine tenths, mildly blurred; the same ones for every image of a size."""
    draw = np.random.default_rng(_SEED)
    width, height = image.size
    soft = image.filter(ImageFilter.GaussianBlur(min(width, height) * BLUR))
    across, down = round(width * CROP), round(height * CROP)
    views = []
    for _ in range(count):
        left, top = int(draw.integers(width - across + 1)), int(draw.integers(height - down + 1))
        views.append(soft.crop((left, top, left + across, top + down)))
    return views
