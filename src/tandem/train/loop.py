"""One training run, from a recipe to a model folder, on one process.

Reads top to bottom: vocabulary, model, data, then steps. A step: a batch in, its losses out, AdamW, the scale capped.
It does not know how batches are made (`data.py`), how a batch becomes a loss (`learner.py`, `loss.py`) or how measures
are taken (`validate.py`).
"""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tandem.config import ModelConfig
from tandem.errors import ConfigError, DataError
from tandem.nn import CLIP, initialise, to_arrays
from tandem.tokenizer import Tokenizer
from tandem.train import checkpoint, teacher
from tandem.train.curve import Curve, Meter
from tandem.train.data import Batches
from tandem.train.learner import Learner, Lessons
from tandem.train.recipe import Recipe, to_dict
from tandem.train.schedule import learning_rate
from tandem.train.validate import measure, read_validation
from tandem.train.vocabulary import train_bpe

MAX_LOGIT_SCALE = math.log(100)


def train(recipe: Recipe, stop_requested: Callable[[], bool] = lambda: False) -> Path | None:
    """Run a recipe to its end, from where its folder stands, and return the folder of the finished model.

    `stop_requested` is asked after every step; when it agrees, the run is saved and None returned.
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
    for step, batch in zip(
        range(position.step, recipe.steps), batches.stream(position.step, recipe.steps), strict=False
    ):
        rate = learning_rate(step, recipe.steps, recipe.optimiser.warmup_steps, recipe.optimiser.learning_rate)
        for group in optimiser.param_groups:
            group["lr"] = rate
        learner.train()
        losses = learner(batch, step)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(learner.parameters(), recipe.optimiser.clip_norm or math.inf)
        if not torch.isfinite(norm):
            raise DataError(
                f"step {step}: the gradient is {norm.item()}; lower optimiser.learning_rate and start again"
            )
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

        done, best_found = step + 1, False
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
            best_found = bool(measures) and sum(measures.values()) > best_score
            best_score = max(best_score, sum(measures.values()))
        stopping = stop_requested()
        if done % recipe.checkpoints.every_steps == 0 or done == recipe.steps or stopping:
            at = checkpoint.Position(done, best_score)
            checkpoint.save(folder / "checkpoints", at, learner, optimiser, to_dict(recipe))
        if best_found:  # after the checkpoint: what cannot be written here must not cost the steps
            write_model(folder / "best", config, tokenizer, model)
        if stopping:
            return None
    for training_set in batches.sets:
        for key, reason in training_set.broken.items():
            _say(f"left out {key}: {reason}")
    write_model(folder / "model", config, tokenizer, model)
    return folder / "model"


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


def write_model(folder: Path, config: ModelConfig, tokenizer: Tokenizer, model: CLIP) -> None:
    """The weights in float16 as a Tandem folder, ready for `tandem.load`."""
    from tandem.weights import Checkpoint, write

    tensors = {name: array.astype(np.float16) for name, array in to_arrays(model).items()}
    write(Checkpoint(config, tensors, tokenizer, str(folder)), folder, "tandem", overwrite=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
