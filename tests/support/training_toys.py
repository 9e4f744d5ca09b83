"""Small training sets in every kind of file, and recipes over them: images of one colour, named by their colour."""

import csv
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from support import toy
from tandem.nn import CLIP, from_arrays
from tandem.train.data.batch import Batch
from tandem.train.objective.targets import SparseTargets
from tandem.train.recipe import Recipe, from_dict

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (30, 30, 220), "white": (250, 250, 250)}
NAMES = [name for name in COLOURS for _ in range(10)]
MODEL = {
    "embed_dim": 16,
    "vision": {
        "type": "vision_transformer",
        "image_size": 16,
        "patch_size": 4,
        "width": 8,
        "layers": 1,
        "heads": 2,
        "mlp_width": 16,
        "activation": "gelu",
    },
    "text": {
        "context_length": 16,
        "vocabulary_size": 517,
        "width": 16,
        "layers": 1,
        "heads": 2,
        "mlp_width": 16,
        "activation": "gelu",
        "start_id": 515,
        "end_id": 516,
    },
}


def colour_image(name: str, seed: int, size: int = 20, ending: str = "PNG") -> bytes:
    """An image of one colour that no other seed gives."""
    noise = np.random.default_rng(seed).integers(-15, 15, (size, size + 4, 3))
    out = io.BytesIO()
    Image.fromarray(np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)).save(out, ending)
    return out.getvalue()


def colour_of(pixels: np.ndarray) -> str:
    """The name of the colour that an image has."""
    return min(COLOURS, key=lambda name: float(np.abs(pixels.mean((0, 1)) - COLOURS[name]).sum()))


def all_images() -> list[bytes]:
    """40 images, ten of each colour."""
    return [colour_image(name, i) for i, name in enumerate(NAMES)]


def write_parquet(path: Path, images: list[bytes] | None = None, rows_per_group: int = 7) -> Path:
    table = pa.table({"image": images or all_images(), "names": [f"{name}, {name} thing" for name in NAMES]})
    pq.write_table(table, path, row_group_size=rows_per_group)
    return path


def write_tar(path: Path, images: list[bytes] | None = None, captions: int = 2, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for i, (name, image) in enumerate(zip(NAMES, images or all_images(), strict=True)):
            texts = [f"{name} image {i} number {k}" + " long" * k for k in range(captions)]
            add(tar, f"{i:03d}.png", image)
            add(tar, f"{i:03d}.json", json.dumps({"captions": texts}).encode())
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write_folder(path: Path) -> Path:
    for i, (name, image) in enumerate(zip(NAMES, all_images(), strict=True)):
        (path / f"{name}_thing").mkdir(parents=True, exist_ok=True)
        (path / f"{name}_thing" / f"{i}.png").write_bytes(image)
    return path


def write_table(path: Path, delimiter: str = ",") -> Path:
    """Two captions for each image, each on a line of its own."""
    (path.parent / "files").mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, delimiter=delimiter)
        rows.writerow(["filepath", "split", "title"])
        for i, (name, image) in enumerate(zip(NAMES, all_images(), strict=True)):
            (path.parent / "files" / f"{i}.png").write_bytes(image)
            rows.writerow([f"files/{i}.png", "train", f"a {name} one, {i}"])
            rows.writerow([f"files/{i}.png", "train", f"the {name} one, {i}"])
    return path


NAMED: Mapping[str, Any] = {"path": "names.parquet", "text": "names", "kind": "names", "per_batch": 10}
CAPTIONED: Mapping[str, Any] = {"path": "captions.tar", "text": "captions", "per_batch": 6}


def recipe(root: Path, *sources: Mapping[str, Any], **changes: Any) -> Recipe:
    """A recipe over files in `root`; indexes go to a folder beside them."""
    values = {"name": "toy", "folder": str(root / "run"), "data_root": str(root), "steps": 100, "workers": 0}
    return from_dict({**values, "model": MODEL, "data": [dict(source) for source in sources], **changes})


def double_clip(vision: str = "vit", **changes: Any) -> CLIP:
    """The toy model in torch, in double precision: what is computed in two ways agrees to the last digits."""
    checkpoint = toy.checkpoint(vision, activation="quick_gelu", **changes)
    return from_arrays(checkpoint.config, checkpoint.tensors).double()


def sparse(dense: torch.Tensor, own: slice = slice(None)) -> SparseTargets:
    """The targets of a process that has the rows `own`, from those of the whole batch [N M]."""
    rows, columns = dense[own].nonzero(as_tuple=True)
    return SparseTargets(rows, columns, dense[own][rows, columns], len(dense[own]), len(dense), dense.sum(0))


def matrix(batch: Batch) -> np.ndarray:
    """Which text describes which image, bool [n M]: the definition that `matches` is the short form of."""
    found = np.zeros((len(batch.pixels), batch.total_texts), bool)
    if batch.matches is None:
        rows = np.arange(len(batch.pixels))
        found[rows, batch.first_text + rows] = True
    else:
        found[batch.matches.images, batch.matches.texts] = True
    return found
