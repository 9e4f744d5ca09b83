"""The parts of a run, from its recipe: tokenizer, data, model, optimiser, moving average, teachers. Trains nothing.

The loop and the dry run both start here.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from tandem import files
from tandem.config import ModelConfig
from tandem.errors import DataError
from tandem.heads.head import Head
from tandem.nn import CLIP
from tandem.processor import emulates_bfloat16, processor_name
from tandem.tokenizer import TextFormat, Tokenizer
from tandem.train.data.loader import Loader, texts_of
from tandem.train.data.vocabulary import train_bpe
from tandem.train.model import batch_norm, initial_weights
from tandem.train.model.towers import Towers
from tandem.train.objective import teacher
from tandem.train.objective.classification import ClassificationObjective
from tandem.train.objective.clip_teacher import ClipTeacher
from tandem.train.objective.objective import ContrastiveObjective
from tandem.train.objective.teacher import TeacherTargets, sample_words
from tandem.train.parallel.process import Processes, split_ranges
from tandem.train.parallel.wrapping import wrap
from tandem.train.recipe import Recipe
from tandem.train.run.checkpoint import full_state_dict
from tandem.train.step.ema import ModelEma
from tandem.train.step.optimiser import build_optimiser
from tandem.train.wise_ft import ModelWithHead, write_model_with_head
from tandem.weights import Checkpoint, fingerprint, write

MODEL = "model"  # the folder of the model that a run ends with, beside its checkpoints
IMAGES_PER_PASS, TEXTS_PER_PASS = 250, 500  # in validation, on each process


@dataclass(frozen=True)
class WrittenModel:
    """The weights of a run as they are written, on the main process: the model's in float16 by name, and a head's."""

    tensors: dict[str, np.ndarray]
    weights: np.ndarray | None = None  # float32 [c d]
    bias: np.ndarray | None = None  # [c]


@dataclass(frozen=True)
class TrainingRun:
    """The parts of a run on this process."""

    recipe: Recipe
    processes: Processes
    config: ModelConfig  # that of the recipe, with the vocabulary of the run
    tokenizer: Tokenizer
    loader: Loader
    clip: CLIP
    towers: Towers
    wrapped: nn.Module  # the towers as a step calls them: in DDP or FSDP
    objective: ContrastiveObjective | ClassificationObjective
    optimiser: torch.optim.Optimizer
    ema: ModelEma | None
    teacher: TeacherTargets | None
    clip_teacher: ClipTeacher | None
    notes: tuple[str, ...]  # for people: what was resized or newly initialised, and warnings

    def describe(self) -> list[str]:
        """A summary of the training in a few lines; recipe.toml has all of it."""
        recipe = self.recipe
        total = sum(p.numel() for p in self.clip.parameters()) / 1e6
        trained = sum(p.numel() for p in self.clip.parameters() if p.requires_grad) / 1e6
        image = sum(p.numel() for p in self.clip.visual.parameters()) / 1e6
        sources = ", ".join(
            f"{each.label_of_source} {each.source.per_batch or f'({each.source.weight:g})'}"
            for each in self.loader.samples[:6]
        )
        parallel = recipe.parallel
        return [
            f"{recipe.name}: {total:.2f} M weights, {image:.2f} M of them for images"
            + (f", {trained:.2f} M trained" if trained < total else ""),
            f"batch {recipe.batch_size}: {sources}",
            f"{self._what_is_learnt()}, {recipe.precision}, rate {recipe.optimiser.learning_rate:g}, "
            f"seed {recipe.seed}, {self.processes.count} process{'es' if self.processes.count > 1 else ''}"
            + (f" ({parallel.strategy})" if self.processes.count > 1 else "")
            + (f", {parallel.micro_batches} micro-batches" if parallel.micro_batches > 1 else ""),
        ]

    def _what_is_learnt(self) -> str:
        objective = self.objective
        if isinstance(objective, ClassificationObjective):
            return f"a head of {len(objective.weight)} classes, started at the zero-shot one"
        return self.recipe.objective.loss

    @property
    def classes(self) -> tuple[str, ...]:
        """What a head tells apart, in the order of its logits; () without one."""
        return names_of_classes(self.loader.class_names()) if self.recipe.classifies else ()

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """Unit vectors [n d] -> the logits [n c] of the head. Raises `TypeError` without one."""
        if not isinstance(self.objective, ClassificationObjective):
            raise TypeError("a contrastive objective has no head")
        with torch.no_grad():
            return self.objective.logits(torch.from_numpy(vectors).to(self.processes.device)).cpu().numpy()

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The weights that a checkpoint keeps, by name."""
        return {"towers": self.towers, "objective": self.objective}

    def parameters(self) -> list[nn.Parameter]:
        """Parameters of the towers and the objective; shared ones come once."""
        return list({id(p): p for module in self.modules.values() for p in module.parameters()}.values())

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Inside, the model is as it is validated and written: in evaluation mode, with averaged weights."""
        initial_weights.set_training(self.towers, False)
        with self.ema.in_place() if self.ema else nullcontext():
            yield
        for module in self.towers.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # otherwise it would keep the averaged weights it has gathered for the next step

    def image_vectors(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [n s s 3] -> unit vectors [n d]; each process encodes its share."""
        return self._distribute(len(pixels), IMAGES_PER_PASS, lambda rows: self._encode(pixels[rows], None))

    def text_vectors(self, texts: list[str]) -> np.ndarray:
        """m texts -> unit vectors [m d]; each process encodes its share."""
        ids = self.tokenizer(texts, self.config.text.context_length, truncate=True)
        return self._distribute(len(ids), TEXTS_PER_PASS, lambda rows: self._encode(None, ids[rows]))

    def _encode(self, pixels: np.ndarray | None, ids: np.ndarray | None) -> Tensor:
        moved = None if pixels is None else torch.from_numpy(pixels).to(self.processes.device)
        images, texts = self.towers(moved, None if ids is None else torch.from_numpy(ids))
        return images if ids is None else texts  # type: ignore[no-any-return]

    @torch.no_grad()
    def _distribute(self, rows: int, at_once: int, encode: Callable[[slice], Tensor]) -> np.ndarray:
        parts = []
        count, rank = self.processes.count, self.processes.rank
        for start in range(0, rows, at_once * count):
            mine = split_ranges(min(at_once * count, rows - start), count)[rank]
            size = mine.stop - mine.start
            # Sharded towers need every process in every pass: one without rows encodes a row that is dropped.
            encoded = slice(start + mine.start, start + mine.stop) if size else slice(start, start + 1)
            parts.append(self.processes.gather(encode(encoded)[:size])[0].cpu().numpy())
        return np.concatenate(parts)

    def written_model(self) -> WrittenModel:
        """The model as it is written. Gathered if it is sharded: all processes must call it."""
        tensors = full_state_dict(self.clip, keep=self.processes.is_main)
        arrays = {n: t.numpy().astype(np.float16) for n, t in tensors.items() if not n.endswith("num_batches_tracked")}
        if not isinstance(self.objective, ClassificationObjective):
            return WrittenModel(arrays)
        weights, bias = self.objective.head()
        return WrittenModel(arrays, weights.numpy(), bias.numpy())

    def write_model(self, found: WrittenModel, folder: Path, head: bool = True) -> None:
        """A Tandem folder, ready for `tandem.load`; and the head, where there is one and it is asked for, beside it."""
        model = Checkpoint(self.config, found.tensors, self.tokenizer, str(folder))
        if found.weights is None or found.bias is None or not head:
            write(model, folder, "tandem", overwrite=True)
            return
        card = {
            "model": self.config.name,
            "steps": self.recipe.steps,
            "label_smoothing": self.recipe.objective.label_smoothing,
        }
        made = Head(self.classes, found.weights, found.bias, fingerprint(model), "fine_tuning", card)
        write_model_with_head(ModelWithHead(model, made), folder)


def assemble(recipe: Recipe, processes: Processes, folder: Path, steps: Sequence[int] | None = None) -> TrainingRun:
    """Build all parts; `folder` keeps what is expensive to compute: the vocabulary, the vectors of a teacher.

    steps: those that will be taken, if they are few: a teacher then encodes their texts only.
    Raises `ConfigError`, `DataError` or `WeightsError` if the recipe or what it names is not usable.
    """
    initial = initial_weights.load_initial(recipe)
    tokenizer = initial.tokenizer or _tokenizer(recipe, processes, folder)
    config = with_vocabulary(initial.config, tokenizer)
    loader = Loader(recipe, tokenizer, rank=processes.rank, processes=processes.count)
    targets = _teacher_targets(recipe, loader, processes, folder, steps)

    torch.manual_seed(recipe.seed)  # for the objective, which uses the global generator
    clip = initial_weights.build_model(initial, config, recipe.seed)
    # Convolutions are faster in channels last; what is sharded must be contiguous.
    sharded = recipe.parallel.strategy == "fsdp" and processes.count > 1
    order = torch.contiguous_format if sharded else torch.channels_last
    clip = clip.to(processes.device, memory_format=order)  # type: ignore[call-overload]
    initial_weights.lock(clip, recipe.locked, recipe.unlocked_blocks, initial.tensors)
    if recipe.classifies:
        initial_weights.lock(clip, ("text",))
    towers = Towers(clip, recipe.precision).to(processes.device)
    chosen = recipe.distillation
    clip_teacher = ClipTeacher(chosen.model, recipe.precision, processes.device) if chosen.model else None
    objective: ContrastiveObjective | ClassificationObjective
    if recipe.classifies:
        if len(loader.class_names()) < 2:
            raise DataError(f"{loader.samples[0].label_of_source}: expected images of at least two classes, got one")
        vectors = zero_shot_vectors(clip, loader, tokenizer, processes.device)
        objective = ClassificationObjective(clip, vectors, recipe.objective.label_smoothing)
    else:
        objective = ContrastiveObjective(
            clip, recipe, targets.width if targets else 0, clip_teacher.scale if clip_teacher else 1.0
        )
    objective.to(processes.device)
    processes.broadcast(objective.parameters())
    batch_norm.set_groups(towers, recipe.parallel.norm_batch)
    wrapped = wrap(towers, blocks(clip), clip.scaling(), recipe.parallel, processes)
    optimiser = build_optimiser(towers, objective, recipe.optimiser)
    ema = ModelEma(_averaged(towers, objective), recipe.ema.decay) if recipe.ema.decay else None
    return TrainingRun(
        recipe, processes, config, tokenizer, loader, clip, towers, wrapped, objective, optimiser, ema, targets,
        clip_teacher, (*initial.notes, *loader.warnings(), *precision_warnings(recipe, processes.device)),
    )  # fmt: skip


def precision_warnings(recipe: Recipe, device: torch.device) -> list[str]:
    """A warning where the run computes in bfloat16 on a processor that emulates it."""
    if recipe.precision != "bfloat16" or device.type != "cpu" or not emulates_bfloat16():
        return []
    return [f'{processor_name()} has no bfloat16 instructions and emulates them: precision = "float32" is faster here']


def blocks(model: CLIP) -> list[nn.Module]:
    """The blocks that are checkpointed, compiled and sharded one by one."""
    return [*model.visual.blocks(), *model.text.blocks()]  # type: ignore[operator]


def _averaged(towers: Towers, objective: nn.Module) -> nn.Module:
    """What the moving average is of: the towers, and a head that was trained with them."""
    if not isinstance(objective, ClassificationObjective):
        return towers
    averaged = nn.Module()
    averaged.clip = towers.clip
    averaged.head = nn.ParameterDict({"weight": objective.weight, "bias": objective.bias})
    return averaged


@torch.no_grad()
def zero_shot_vectors(clip: CLIP, loader: Loader, tokenizer: Tokenizer, device: torch.device) -> Tensor:
    """One vector for each class, float32 [c d]: those of its synonyms in the templates of its source, averaged."""
    prompts = loader.class_prompts()
    texts = [text for each in prompts for text in each]
    ids = torch.from_numpy(tokenizer(texts, clip.config.text.context_length, truncate=True))
    towers = Towers(clip.eval(), "float32").to(device)
    vectors = torch.cat([towers(None, part)[1].float().cpu() for part in torch.split(ids, TEXTS_PER_PASS)])
    means = [each.mean(0) for each in torch.split(vectors, [len(each) for each in prompts])]
    return torch.nn.functional.normalize(torch.stack(means), dim=-1)


def names_of_classes(found: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """A name for each class: its first synonym, or all of them where two classes have the same first one."""
    firsts = Counter(names[0] for names in found)
    return tuple(names[0] if firsts[names[0]] == 1 else ", ".join(names) for names in found)


def with_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
    """The configuration with the text format and the vocabulary size of a tokenizer."""
    text = replace(config.text, vocabulary_size=tokenizer.vocabulary_size, **dataclasses.asdict(tokenizer.format))
    return replace(config, text=text)


def _tokenizer(recipe: Recipe, processes: Processes, folder: Path) -> Tokenizer:
    """CLIP's, or a new one that the main process trains once and keeps in the folder of the run."""
    cleaning = recipe.model.text.cleaning
    if not recipe.vocabulary:
        return Tokenizer.clip().with_format(TextFormat(cleaning=cleaning))
    stored = None
    if processes.is_main:
        stored = Tokenizer.from_folder(folder, recipe.model.text)
        if stored is None:
            stored = train_bpe(texts_of(recipe), recipe.vocabulary)
            files.write_text(
                folder / "tokenizer.json", stored.to_json()
            )  # whole or not at all, even if the run is killed
        stored = stored.with_format(replace(stored.format, cleaning=cleaning))
    sent = processes.broadcast_object(stored and (stored.to_json(), stored.format))
    if stored is not None:
        return stored
    text, format = sent
    return Tokenizer.from_json(text, format, str(folder))


def _teacher_targets(
    recipe: Recipe, loader: Loader, processes: Processes, folder: Path, steps: Sequence[int] | None
) -> TeacherTargets | None:
    """The teacher's vectors: computed by the main process, read by the others."""
    chosen = recipe.distillation
    if not chosen.teacher:
        return None
    count = chosen.words_per_batch
    cache = folder / "teacher.npz"
    extra = teacher.words(chosen.teacher, cache) if count else []
    if steps is not None and not cache.exists():
        words = [word for step in steps for word in sample_words(extra, count, recipe.seed, step)]
        needed = [text for step in steps for text in loader.batch(step).texts] + words
        known = teacher.vectors(chosen.teacher, needed, folder / f"teacher-{processes.rank}.npz")
        return TeacherTargets(known, extra, count, recipe.seed, processes.rank, processes.count)
    texts = loader.all_texts()
    if processes.is_main:
        teacher.vectors(chosen.teacher, texts, cache, extra)
    processes.barrier()
    known = teacher.vectors(chosen.teacher, texts, cache, extra)
    return TeacherTargets(known, extra, count, recipe.seed, processes.rank, processes.count)
