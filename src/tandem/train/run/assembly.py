"""Everything a run is made of, from the recipe: tokenizer, data, model, optimiser, average, teacher. It trains nothing.

The loop and the dry run both begin here.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from tandem.config import ModelConfig
from tandem.nn import CLIP
from tandem.nn.resnet import BasicBlock, Bottleneck
from tandem.nn.transformer import Block
from tandem.tokenizer import Tokenizer
from tandem.train.data.loader import Loader, sentences_of
from tandem.train.data.vocabulary import train_bpe
from tandem.train.model import batch_norm, initial_weights
from tandem.train.model.towers import Towers
from tandem.train.objective import teacher
from tandem.train.objective.clip_teacher import ClipTeacher
from tandem.train.objective.objective import Heads
from tandem.train.objective.teacher import Lessons, drawn_words
from tandem.train.parallel.process import Processes, shares
from tandem.train.parallel.wrapping import wrap
from tandem.train.recipe import Recipe
from tandem.train.run.checkpoint import whole
from tandem.train.step.ema import Average
from tandem.train.step.optimiser import build_optimiser
from tandem.weights import Checkpoint, write

IMAGES_AT_ONCE, TEXTS_AT_ONCE = 250, 500  # of validation, on each process


@dataclass(frozen=True)
class Run:
    """The parts of a run on this process."""

    recipe: Recipe
    processes: Processes
    config: ModelConfig  # the recipe's, with the run's vocabulary
    tokenizer: Tokenizer
    loader: Loader
    clip: CLIP
    towers: Towers
    wrapped: nn.Module  # the towers as a step calls them
    heads: Heads
    optimiser: torch.optim.Optimizer
    average: Average | None
    lessons: Lessons | None
    clip_teacher: ClipTeacher | None
    notes: tuple[str, ...]  # for people: what was resized, drawn afresh, ...

    def describe(self) -> list[str]:
        """What is about to be trained, in a few lines; all of it is in recipe.toml."""
        recipe = self.recipe
        total = sum(p.numel() for p in self.clip.parameters()) / 1e6
        learnt = sum(p.numel() for p in self.clip.parameters() if p.requires_grad) / 1e6
        image = sum(p.numel() for p in self.clip.visual.parameters()) / 1e6
        sources = ", ".join(f"{source.path} {source.per_batch or f'({source.weight:g})'}" for source in recipe.data[:6])
        spread = recipe.parallel
        return [
            f"{recipe.name}: {total:.2f} M weights, {image:.2f} M of them for images"
            + (f", {learnt:.2f} M learn" if learnt < total else ""),
            f"batch {recipe.batch_size}: {sources}",
            f"{recipe.objective.loss}, {recipe.precision}, rate {recipe.optimiser.learning_rate:g}, "
            f"seed {recipe.seed}, {self.processes.count} process{'es' if self.processes.count > 1 else ''}"
            + (f" ({spread.strategy})" if self.processes.count > 1 else "")
            + (f", {spread.micro_batches} micro-batches" if spread.micro_batches > 1 else ""),
        ]

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint keeps of the weights, by name."""
        return {"towers": self.towers, "heads": self.heads}

    def parameters(self) -> list[nn.Parameter]:
        """Of towers and heads; what they share comes once."""
        return list({id(p): p for module in self.modules.values() for p in module.parameters()}.values())

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Within it the model is as it is measured and written: in evaluation, with averaged weights."""
        initial_weights.set_mode(self.towers, False)
        with self.average.in_place() if self.average else nullcontext():
            yield
        for module in self.towers.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # it would keep what it has gathered, averaged as it is, for the next step

    def image_vectors(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [n s s 3] -> unit vectors [n d]; each process encodes its share."""
        return self._spread(len(pixels), IMAGES_AT_ONCE, lambda rows: self._encode(pixels[rows], None))

    def text_vectors(self, sentences: list[str]) -> np.ndarray:
        """m sentences -> unit vectors [m d]; each process encodes its share."""
        ids = self.tokenizer(sentences, self.config.text.context_length, truncate=True)
        return self._spread(len(ids), TEXTS_AT_ONCE, lambda rows: self._encode(None, ids[rows]))

    def _encode(self, pixels: np.ndarray | None, ids: np.ndarray | None) -> Tensor:
        moved = None if pixels is None else torch.from_numpy(pixels).to(self.processes.device)
        images, texts = self.towers(moved, None if ids is None else torch.from_numpy(ids))
        return images if ids is None else texts  # type: ignore[no-any-return]

    @torch.no_grad()
    def _spread(self, rows: int, at_once: int, encode: Callable[[slice], Tensor]) -> np.ndarray:
        parts = []
        count, rank = self.processes.count, self.processes.rank
        for start in range(0, rows, at_once * count):
            mine = shares(min(at_once * count, rows - start), count)[rank]
            size = mine.stop - mine.start
            # Sharded towers need every process in every pass: one without rows encodes a row for nobody.
            shown = slice(start + mine.start, start + mine.stop) if size else slice(start, start + 1)
            parts.append(self.processes.gather(encode(shown)[:size])[0].cpu().numpy())
        return np.concatenate(parts)

    def model_arrays(self) -> dict[str, np.ndarray]:
        """The model in float16, as it is written. Gathered where it is sharded: all processes must call it."""
        tensors = whole(self.clip, keep=self.processes.first)
        return {n: t.numpy().astype(np.float16) for n, t in tensors.items() if not n.endswith("num_batches_tracked")}

    def write_model(self, arrays: dict[str, np.ndarray], folder: Path) -> None:
        """A Tandem folder, ready for `tandem.load`."""
        write(Checkpoint(self.config, arrays, self.tokenizer, str(folder)), folder, "tandem", overwrite=True)


def assemble(recipe: Recipe, processes: Processes, folder: Path, steps: Sequence[int] | None = None) -> Run:
    """Build all parts; `folder` keeps what takes long to make: the vocabulary, the teacher's vectors.

    steps: those that will be taken, where they are few: a teacher is then asked for their sentences alone.

    Raises `ConfigError`, `DataError` or `WeightsError` where the recipe or what it names is not usable.
    """
    begun = initial_weights.begin(recipe)
    tokenizer = begun.tokenizer or _tokenizer(recipe, processes, folder)
    config = with_vocabulary(begun.config, tokenizer)
    loader = Loader(recipe, tokenizer, rank=processes.rank, processes=processes.count)
    lessons = _lessons(recipe, loader, processes, folder, steps)

    torch.manual_seed(recipe.seed)  # for heads, which draw from the global generator
    clip = initial_weights.build(begun, config, recipe.seed)
    # Convolutions want channels last; what is sharded must be laid out in the plain order.
    sharded = recipe.parallel.strategy == "fsdp" and processes.count > 1
    order = torch.contiguous_format if sharded else torch.channels_last
    clip = clip.to(processes.device, memory_format=order)  # type: ignore[call-overload]
    initial_weights.lock(clip, recipe.locked, recipe.unlocked_blocks, begun.tensors)
    towers = Towers(clip, recipe.precision).to(processes.device)
    chosen = recipe.distillation
    clip_teacher = ClipTeacher(chosen.model, recipe.precision, processes.device) if chosen.model else None
    heads = Heads(clip, recipe, lessons.width if lessons else 0, clip_teacher.scale if clip_teacher else 1.0)
    heads.to(processes.device)
    processes.broadcast(heads.parameters())
    batch_norm.fix_groups(towers, recipe.parallel.norm_batch)
    wrapped = wrap(towers, blocks(clip), [clip.logit_scale], recipe.parallel, processes)
    optimiser = build_optimiser(towers, heads, recipe.optimiser)
    average = Average(towers, recipe.ema.decay) if recipe.ema.decay else None
    return Run(
        recipe, processes, config, tokenizer, loader, clip, towers, wrapped, heads, optimiser, average, lessons,
        clip_teacher, begun.notes,
    )  # fmt: skip


def blocks(model: nn.Module) -> list[nn.Module]:
    """What is recomputed, compiled and sharded one by one."""
    return [module for module in model.modules() if isinstance(module, Block | Bottleneck | BasicBlock)]


def with_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
    """The model's description with the ids and the size of a tokenizer."""
    text = replace(
        config.text,
        vocabulary_size=tokenizer.vocabulary_size,
        start_id=tokenizer.start_id,
        end_id=tokenizer.end_id,
        pad_id=tokenizer.pad_id,
    )
    return replace(config, text=text)


def _tokenizer(recipe: Recipe, processes: Processes, folder: Path) -> Tokenizer:
    """CLIP's, or one of the run's own that the first process trains once and keeps in the run's folder."""
    if not recipe.vocabulary:
        return Tokenizer.clip()
    stored = None
    if processes.first:
        stored = Tokenizer.from_folder(folder, recipe.model.text)
        if stored is None:
            stored = train_bpe(sentences_of(recipe), recipe.vocabulary)
            stored.save(folder)
    told = processes.tell(stored and (stored.to_json(), stored.start_id, stored.end_id, stored.pad_id))
    if stored is not None:
        return stored
    text, start_id, end_id, pad_id = told
    return Tokenizer.from_json(text, start_id, end_id, pad_id, str(folder))


def _lessons(
    recipe: Recipe, loader: Loader, processes: Processes, folder: Path, steps: Sequence[int] | None
) -> Lessons | None:
    """The teacher's vectors: computed by the first process, read by the others."""
    chosen = recipe.distillation
    if not chosen.teacher:
        return None
    count = chosen.words_per_batch
    extra = teacher.words(chosen.teacher) if count else []
    cache = folder / "teacher.npz"
    if steps is not None and not cache.exists():
        drawn = [word for step in steps for word in drawn_words(extra, count, recipe.seed, step)]
        needed = [sentence for step in steps for sentence in loader.batch(step).sentences] + drawn
        known = teacher.vectors(chosen.teacher, needed, folder / f"teacher-{processes.rank}.npz")
        return Lessons(known, extra, count, recipe.seed, processes.rank, processes.count)
    sentences = loader.all_sentences() + extra
    if processes.first:
        teacher.vectors(chosen.teacher, sentences, cache)
    processes.barrier()
    known = teacher.vectors(chosen.teacher, sentences, cache)
    return Lessons(known, extra, count, recipe.seed, processes.rank, processes.count)
