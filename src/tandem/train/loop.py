"""One training run, from a recipe to a model folder, on one process.

Reads top to bottom: vocabulary, model, data, then steps. A step: pixels and sentences in, two lots of unit vectors out,
the contrastive loss between them (and the distance of the sentences to a teacher's), AdamW, the scale capped.
It does not know how batches are made (`data.py`), what the loss is (`loss.py`) or how measures are taken (`validate.py`).
"""

import csv
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tandem.config import ModelConfig
from tandem.errors import ConfigError, DataError
from tandem.nn import CLIP, initialise, to_arrays
from tandem.tokenizer import Tokenizer
from tandem.train import checkpoint, teacher
from tandem.train.data import Batch, Batches
from tandem.train.loss import contrastive_loss, distillation_loss, soften
from tandem.train.recipe import Recipe, to_dict
from tandem.train.schedule import learning_rate
from tandem.train.validate import measure, read_validation
from tandem.train.vocabulary import train_bpe

MAX_LOGIT_SCALE = math.log(100)
TEXT_LOTS = 4  # sentences of a batch are encoded in so many lots by length


def train(recipe: Recipe) -> Path:
    """Run a recipe to its end, from where its folder stands, and return the folder of the finished model.

    Raises `ConfigError` or `DataError` before the first step when recipe or data are not usable.
    """
    folder = Path(recipe.folder)
    folder.mkdir(parents=True, exist_ok=True)
    batches = Batches(recipe)
    tokenizer = _tokenizer(recipe, batches, folder)
    config = _with_vocabulary(recipe.model, tokenizer)
    device = _device(recipe.device)

    model = initialise(CLIP(config), recipe.seed).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    lessons = _lessons(recipe, batches, folder)
    learner = Learner(recipe, config, tokenizer, model, lessons, device)
    optimiser = _optimiser(recipe, learner)
    position = checkpoint.resume(folder / "checkpoints", learner, optimiser) or checkpoint.Position(0, -math.inf)
    sets = read_validation(recipe)
    (folder / "recipe.json").write_text(json.dumps(to_dict(recipe), indent=1))
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    _say(f"{recipe.name}: {millions:.2f} M weights, step {position.step} of {recipe.steps}, on {device}")

    best_score = position.best_score
    curve = Curve(folder / "curve.csv", position.step)
    meter = Meter()
    for step, batch in _numbered(batches, position.step, recipe.steps):
        rate = learning_rate(step, recipe.steps, recipe.optimiser.warmup_steps, recipe.optimiser.learning_rate)
        for group in optimiser.param_groups:
            group["lr"] = rate
        learner.train()
        losses = learner(batch, step)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(learner.parameters(), recipe.optimiser.clip_norm or math.inf)
        if not torch.isfinite(norm):
            raise DataError(
                f"step {step}: the gradient is {norm.item()}; lower optimiser.learning_rate and start again"
            )
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

        done = step + 1
        meter.count(len(batch.pixels), {name: value.item() for name, value in losses.items()})
        if done % recipe.log_every_steps == 0 or done == recipe.steps:
            row = {"step": done, "learning_rate": rate, "scale": model.logit_scale.exp().item(), **meter.read()}
            curve.write({**row, "image_size": recipe.image_size_at(step), "gradient_norm": norm.item()})
            _say("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
        if done % recipe.validation.every_steps == 0 or done == recipe.steps:
            learner.eval()
            measures = measure(sets, learner.image_vectors, learner.text_vectors)
            curve.write({"step": done, **measures})
            _say(f"step {done}  " + "  ".join(f"{name} {100 * value:.1f}%" for name, value in measures.items()))
            if measures and sum(measures.values()) > best_score:
                best_score = sum(measures.values())
                write_model(folder / "best", config, tokenizer, model)
        if done % recipe.checkpoint_every_steps == 0 or done == recipe.steps:
            at = checkpoint.Position(done, best_score)
            checkpoint.save(folder / "checkpoints", at, learner, optimiser, to_dict(recipe))
    for training_set in batches.sets:
        for key, reason in training_set.broken.items():
            _say(f"left out {key}: {reason}")
    write_model(folder / "model", config, tokenizer, model)
    return folder / "model"


class Learner(nn.Module):
    """The model with what only training has: the step's losses, and a linear map onto the teacher's space."""

    def __init__(
        self,
        recipe: Recipe,
        config: ModelConfig,
        tokenizer: Tokenizer,
        model: CLIP,
        lessons: "Lessons | None",
        device: torch.device,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe, self.tokenizer, self.lessons, self.device = recipe, tokenizer, lessons, device
        self.context_length = config.text.context_length
        mean, std = np.array(config.preprocessing.mean), np.array(config.preprocessing.std)
        self.register_buffer("mean", torch.tensor(mean * 255, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std * 255, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        width = lessons.width if lessons else 0
        self.to_teacher = nn.Linear(config.embed_dim, width).to(device) if lessons else None
        self.to(device)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The losses of a batch by name; `loss` is what is minimised."""
        words = self.lessons.words(step) if self.lessons else []
        images = self.encode_images(batch.pixels)  # [n d]
        texts = self.encode_texts(batch.sentences + words)  # [m + words, d]
        m = len(batch.sentences)
        targets = torch.from_numpy(batch.targets).to(self.device)
        if self.lessons is None or self.to_teacher is None:
            return {"loss": contrastive_loss(images, texts[:m], self.model.logit_scale, targets)}
        wanted = self.lessons.vectors(batch.sentences + words).to(self.device)
        chosen = self.recipe.distillation
        if chosen.soften:
            targets = soften(targets, wanted[:m], chosen.soften, chosen.temperature)
        contrast = contrastive_loss(images, texts[:m], self.model.logit_scale, targets)
        distance = distillation_loss(self.to_teacher(texts), wanted)
        return {"loss": contrast + chosen.weight * distance, "contrast": contrast, "distance": distance}

    def encode_images(self, pixels: np.ndarray) -> Tensor:
        """uint8 [n s s 3] -> unit vectors float32 [n d]."""
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)  # [n 3 s s], still laid out channels last
        x = (x.float() - self.mean) / self.std
        with self._autocast():
            features = self.model.encode_image(x)
        return F.normalize(features.float(), dim=-1)

    def encode_texts(self, sentences: list[str]) -> Tensor:
        """Sentences -> unit vectors float32 [m d]. What is past the context is cut off.

        Sentences of like length go together, each lot cut to its longest: most are far shorter than the longest one,
        and what follows the end token reaches nothing (a third of the work at four lots).
        """
        ids = self.tokenizer(sentences, self.context_length, truncate=True)  # [m t]
        lengths = (ids == self.tokenizer.end_id).argmax(1) + 1
        order = np.argsort(lengths, kind="stable")
        lots = []
        with self._autocast():
            for rows in np.array_split(order, min(TEXT_LOTS, len(order))):
                lot = torch.from_numpy(ids[rows, : lengths[rows].max()]).to(self.device)
                lots.append(self.model.encode_text(lot).float())
        back = torch.from_numpy(np.argsort(order)).to(self.device)
        return F.normalize(torch.cat(lots)[back], dim=-1)

    @torch.no_grad()
    def image_vectors(self, pixels: np.ndarray) -> np.ndarray:
        """For validation: in batches, without gradient."""
        parts = [self.encode_images(pixels[i : i + 250]).cpu().numpy() for i in range(0, len(pixels), 250)]
        return np.concatenate(parts)

    @torch.no_grad()
    def text_vectors(self, sentences: list[str]) -> np.ndarray:
        """For validation: in batches, without gradient."""
        parts = [self.encode_texts(sentences[i : i + 500]).cpu().numpy() for i in range(0, len(sentences), 500)]
        return np.concatenate(parts)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.recipe.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


@dataclass
class Lessons:
    """The teacher's vectors of every sentence of the run, and words of its own to teach beside them."""

    known: dict[str, np.ndarray]
    extra: list[str]
    per_batch: int
    seed: int

    @property
    def width(self) -> int:
        """The teacher's dimension."""
        return len(next(iter(self.known.values())))

    def words(self, step: int) -> list[str]:
        """The extra sentences of a step."""
        if not self.per_batch:
            return []
        draw = np.random.default_rng((self.seed, step, 1))
        return [self.extra[i] for i in draw.integers(len(self.extra), size=self.per_batch)]

    def vectors(self, sentences: list[str]) -> Tensor:
        """Unit vectors float32 [m e]."""
        return F.normalize(torch.from_numpy(np.stack([self.known[s] for s in sentences])).float(), dim=-1)


def _lessons(recipe: Recipe, batches: Batches, folder: Path) -> Lessons | None:
    chosen = recipe.distillation
    if not chosen.teacher:
        return None
    extra = teacher.words(chosen.teacher) if chosen.words_per_batch else []
    known = teacher.vectors(chosen.teacher, batches.all_sentences() + extra, folder / "teacher.npz")
    return Lessons(known, extra, chosen.words_per_batch, recipe.seed)


def _tokenizer(recipe: Recipe, batches: Batches, folder: Path) -> Tokenizer:
    """CLIP's, or one of the run's own that is trained once and kept in its folder."""
    if not recipe.vocabulary:
        return Tokenizer.clip()
    stored = Tokenizer.from_folder(folder, recipe.model.text)
    if stored is None:
        stored = train_bpe(batches.all_sentences(), recipe.vocabulary)
        stored.save(folder)
    return stored


def _with_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
    text = replace(
        config.text,
        vocabulary_size=tokenizer.vocabulary_size,
        start_id=tokenizer.start_id,
        end_id=tokenizer.end_id,
        pad_id=tokenizer.pad_id,
    )
    return replace(config, text=text)


def _optimiser(recipe: Recipe, learner: Learner) -> torch.optim.Optimizer:
    """AdamW; gains, biases and the scale are not decayed."""
    chosen = recipe.optimiser
    decayed = [p for p in learner.parameters() if p.ndim >= 2]
    exempt = [p for p in learner.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": chosen.weight_decay}, {"params": exempt, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(chosen.beta1, chosen.beta2), eps=chosen.epsilon, fused=True)


def _device(name: str) -> torch.device:
    if name != "auto":
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"device: {name} is not available here: {str(error).splitlines()[0]}") from None
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _numbered(batches: Batches, start: int, stop: int) -> Iterator[tuple[int, Batch]]:
    return zip(range(start, stop), batches.stream(start, stop), strict=True)


def write_model(folder: Path, config: ModelConfig, tokenizer: Tokenizer, model: CLIP) -> None:
    """The weights in float16 as a Tandem folder, ready for `tandem.load`."""
    from tandem.weights import Checkpoint, write

    tensors = {name: array.astype(np.float16) for name, array in to_arrays(model).items()}
    write(Checkpoint(config, tensors, tokenizer, str(folder)), folder, "tandem", overwrite=True)


class Meter:
    """Means of the losses and the rate since it was last read."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps = self._pairs = 0
        self._since = time.monotonic()

    def count(self, pairs: int, values: dict[str, float]) -> None:
        """Add a step."""
        self._steps += 1
        self._pairs += pairs
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def read(self) -> dict[str, float]:
        """Means and pairs a second; starts again."""
        now = time.monotonic()
        out = {name: value / self._steps for name, value in self._sums.items()}
        out["pairs_per_s"] = self._pairs / max(now - self._since, 1e-9)
        self.__init__()  # type: ignore[misc]
        return out


class Curve:
    """The run as a CSV: a line whenever there is something to say. Lines past the step a run resumes at are dropped."""

    COLUMNS = (
        "step", "loss", "contrast", "distance", "learning_rate", "scale", "gradient_norm", "pairs_per_s", "image_size",
        "zero_shot_top1", "text_to_image_r10", "image_to_text_r10",
    )  # fmt: skip

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = []
        if path.exists():
            with path.open(newline="") as file:
                kept = [row for row in csv.DictReader(file) if row["step"].isdigit() and int(row["step"]) <= step]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.COLUMNS)
            writer.writeheader()
            writer.writerows(kept)

    def write(self, row: dict[str, float]) -> None:
        """Append a line."""
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.COLUMNS).writerow(row)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
