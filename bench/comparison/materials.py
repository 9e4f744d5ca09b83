"""What all sides get: model folders, photos, prompts. Made once, under build/bench.

Published weights are used where they are given; else weights are drawn from a seed, which take as long. Photos are the
user's JPEGs where a folder is given; else crops of the sample photographs of scikit-image and scikit-learn. Photos of
12 megapixels, and those that int8 is calibrated with, are such crops in any case.
"""

import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from peers.with_tandem import RANDOM

from comparison.rows import OTHER_MODEL, Row

PHOTOS, LARGE, CALIBRATION = 1000, 12, 300
SIZE, LARGE_SIZE = (460, 390), (4000, 3000)
JPEGS = (".jpg", ".jpeg")
MOST_TOKENS = 16

ADJECTIVES = ("", "small", "red", "very old", "wooden", "sleeping black-and-white", "big", "blue")
NOUNS = (
    "cat", "dog", "fire engine", "coffee cup", "mountain bike", "hot-air balloon", "violin", "sea turtle",
    "lighthouse", "steam train",
)  # fmt: skip
PLACES = ("", "in the snow", "on a table", "by the sea at night", "in a crowded street")
TEMPLATES = ("a photo of a {}.", "a {}.", "a blurry photo of the {}.", "a painting of a {}.", "the {}", "my {}, today")


def prompts(count: int, tokens_in: Callable[[Sequence[str]], Sequence[int]], seed: int = 0) -> list[str]:
    """Different sentences of at most `MOST_TOKENS` tokens, shuffled. Raises `ValueError` where there are fewer."""
    phrases = [" ".join(f"{a} {n} {p}".split()) for a in ADJECTIVES for n in NOUNS for p in PLACES]
    sentences = [template.format(phrase) for template in TEMPLATES for phrase in phrases]
    lengths = tokens_in(sentences)
    fitting = [text for text, length in zip(sentences, lengths, strict=True) if length <= MOST_TOKENS]
    if len(fitting) < count:
        raise ValueError(f"expected at most {len(fitting)} prompts, got {count}")
    order = np.random.default_rng(seed).permutation(len(fitting))
    return [fitting[i] for i in order[:count]]


def marked(paths: Iterable[Path]) -> str:
    """What changes when one of the files does: a digest of their paths, sizes and times."""
    digest = hashlib.sha256()
    for path in paths:
        about = path.stat()
        digest.update(f"{path.resolve()}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]


class Materials:
    """Folders and files by name, each made when it is first asked for."""

    def __init__(self, home: Path, photos: Path | None = None, models: dict[str, Path] | None = None) -> None:
        """Raises `ValueError` for a folder of a model that is not there, and for too few photos."""
        self._home, self._given = home, models or {}
        for name, folder in self._given.items():
            if not folder.is_dir():
                raise ValueError(f"--model: {name}: {folder} is not a folder")
        self._marks = {
            name: marked(sorted(path for path in folder.rglob("*") if path.is_file()))
            for name, folder in self._given.items()
        }
        self._photos = photos and _jpegs(photos)
        self._photos_mark = marked(map(Path, self._photos)) if self._photos else "crops"

    # --- models --------------------------------------------------------------------------------------------------

    def model(self, name: str) -> str:
        """A folder with the model, in a format that all sides of its rows read."""
        if name in self._given:
            return str(self._given[name])
        if name == "tandem-mini":
            from tandem.model import SHIPPED

            return str(SHIPPED)
        folder = self._home / "models" / name
        if not (folder / RANDOM).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            _MODELS[name](folder)
            (folder / RANDOM).touch()
        return str(folder)

    def in_open_clip(self, name: str) -> str:
        """The same weights in open_clip's format."""
        from tandem import weights

        folder = Path(self.scratch(name, "open_clip")) / "model"
        if not folder.is_dir():
            weights.write(weights.read(self.model(name)), folder, "open_clip")
        return str(folder)

    def weights(self, name: str) -> str:
        """What a reader of the page is told of a model's weights."""
        if name == "tandem-mini":
            return f"{name}: as it ships"
        return f"{name}: weights of {self._given[name].name}" if name in self._given else f"{name}: random weights"

    def is_random(self, name: str) -> bool:
        """Whether the model's weights are drawn, so that nothing is there for int8 to keep."""
        return name != "tandem-mini" and name not in self._given

    def settings(self, row: Row) -> dict[str, str]:
        """What a row's figures depend on, beside the machine and the libraries: with others they do not compare."""
        models = [row.model, OTHER_MODEL] if row.others else [row.model]
        found = {"model": ", ".join(self._marks.get(name, "not given") for name in models)}
        if row.work in ("images", "files", "photo") and row.key != "large":
            found["photos"] = self._photos_mark
        return found

    def forget_quantized(self) -> None:
        """Remove what this or another state of `tandem quantize` made for the benchmark."""
        for folder in (self._home / "exports").glob("*/tandem"):
            shutil.rmtree(folder)

    def scratch(self, name: str, library: str) -> str:
        """A folder for what a library exports of a model: of these very files, where they were given."""
        given = f"-{self._marks[name]}" if name in self._given else ""
        return str(self._home / "exports" / f"{name}{given}" / library)

    # --- photos --------------------------------------------------------------------------------------------------

    def photos(self, count: int = PHOTOS) -> list[str]:
        return self._photos[:count] if self._photos else self._crops("photos", count, SIZE)

    def large_photos(self) -> list[str]:
        """12 megapixels each. Those of the user are not asked for: few folders have only such ones."""
        return self._crops("large", LARGE, LARGE_SIZE)

    def calibration_photos(self) -> list[str]:
        """For peers that quantise: none of them is timed."""
        return self._crops("calibration", CALIBRATION, (450, 380))

    def photos_note(self) -> str:
        crops = "crops of the sample photographs of scikit-image and scikit-learn"
        if not self._photos:
            return f"{crops}, {SIZE[0]} x {SIZE[1]}; of 12 megapixels {LARGE_SIZE[0]} x {LARGE_SIZE[1]}"
        others = "those of 12 megapixels, and what int8 is calibrated with"
        return f"{len(self._photos):,} JPEGs of a folder of photos; {others}: {crops}"

    def _crops(self, name: str, count: int, size: tuple[int, int]) -> list[str]:
        from indexing import crops

        folder = self._home / name
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{i:05}.jpg" for i in range(count)]
        if not all(path.is_file() for path in paths):
            for path, image in zip(paths, crops(count, size), strict=True):
                image.save(path, quality=90)
        return [str(path) for path in paths]

    # --- inputs of encoders ---------------------------------------------------------------------------------------

    def pixels(self, name: str, count: int = 32) -> str:
        """A file of uint8 [n h w 3]: photos as the model's preprocessing leaves them."""
        from PIL import Image

        from tandem import weights
        from tandem.pixels import preprocess

        config, _ = weights.read_tensors(self.model(name))
        how = hashlib.sha256(repr(config.preprocessing).encode()).hexdigest()[:8]
        path = self._home / f"pixels-{config.vision.image_size}-{count}-{how}-{self._photos_mark}.npy"
        if not path.is_file():
            rows = []
            for photo in self.photos(max(count, 1)):
                with Image.open(photo) as image:
                    rows.append(preprocess(image.convert("RGB"), config.preprocessing))
            np.save(path, np.stack(rows[:count]))
        return str(path)

    @staticmethod
    def prompts(count: int, seed: int = 0) -> list[str]:
        from tandem.tokenizer import Tokenizer

        tokenizer = Tokenizer.clip()
        return prompts(count, lambda texts: [len(ids) + 2 for ids in tokenizer.encode(list(texts))], seed)


def _jpegs(folder: Path) -> list[str]:
    """Raises `ValueError` where there are fewer than rows need."""
    found = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in JPEGS)
    if len(found) < PHOTOS:
        raise ValueError(f"--photos: {folder}: expected at least {PHOTOS:,} JPEGs, found {len(found):,}")
    return found[:PHOTOS]


def _transformers(folder: Path, **changes: dict[str, int]) -> None:
    """A CLIP in transformers' layout, which all libraries but open_clip read."""
    from reference import END, START
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    from tandem.tokenizer import Tokenizer

    tokens = {"bos_token_id": START, "eos_token_id": END, "pad_token_id": END}
    text, vision, wide = (changes.get(part, {}) for part in ("text", "vision", "whole"))
    config = CLIPConfig(text_config={**tokens, **text}, vision_config=vision, **wide)
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    CLIPImageProcessor().save_pretrained(folder)
    Tokenizer.clip().save(folder)
    CLIPModel(config).save_pretrained(folder)


def _ours(name: str, folder: Path) -> None:
    """An architecture with weights that training would start from."""
    from tandem import weights
    from tandem.nn import clip
    from tandem.tokenizer import Tokenizer
    from tandem.weights.architectures import architecture
    from tandem.weights.checkpoint import Checkpoint

    config = architecture(name)
    tensors = clip.to_arrays(clip.initialise(clip.CLIP(config)))
    weights.write(Checkpoint(config, tensors, Tokenizer.clip(), name), folder)


def _l14(folder: Path) -> None:
    vision = {
        "patch_size": 14, "hidden_size": 1024, "intermediate_size": 4096,
        "num_hidden_layers": 24, "num_attention_heads": 16,
    }  # fmt: skip
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    _transformers(folder, vision=vision, text=text, whole={"projection_dim": 768})


_MODELS: dict[str, Callable[[Path], None]] = {
    "vit-b-32": lambda folder: _transformers(folder, vision={"patch_size": 32}, whole={"projection_dim": 512}),
    "vit-l-14": _l14,
    "rn50": lambda folder: _ours("RN50-quickgelu", folder),
    "mobileclip2-s0": lambda folder: _ours("MobileCLIP2-S0", folder),
}


def parts_of(items: Sequence[str], count: int) -> Iterator[list[str]]:
    """Parts of so many paths or texts, round and round."""
    parts = [list(items[i : i + count]) for i in range(0, len(items) - count + 1, count)]
    return itertools.cycle(parts)
