"""What is measured: the rows, which sides take part in each, and what is aimed at."""

from dataclasses import dataclass
from typing import Literal

from comparison.sides import Side

PEERS_ENVIRONMENT, OPENVINO_ENVIRONMENT = ".venv-bench", ".venv-bench-openvino"
OTHER_MODEL = "vit-b-32"  # of the sides that a row's `others` names
BASE = "transformers float32"
STRONGEST = "the strongest peer"
Work = Literal["images", "texts", "files", "photo", "search", "accuracy"]


def _sides(library: str, module: str, environment: str, *precisions: str) -> list[Side]:
    return [Side(library, precision, module, environment) for precision in precisions]


_ALL = [
    *_sides("transformers", "with_transformers.py", PEERS_ENVIRONMENT, "float32", "bfloat16"),
    *_sides("sentence-transformers", "with_sentence_transformers.py", PEERS_ENVIRONMENT, "float32", "bfloat16"),
    *_sides("ONNX Runtime", "with_onnxruntime.py", PEERS_ENVIRONMENT, "float32", "int8"),
    *_sides("optimum-intel", "with_optimum_intel.py", OPENVINO_ENVIRONMENT, "float32", "bfloat16", "int8"),
    *_sides("open_clip", "with_open_clip.py", PEERS_ENVIRONMENT, "float32", "bfloat16"),
    *_sides("transformers (77 tokens)", "with_transformers_padded.py", PEERS_ENVIRONMENT, "float32", "bfloat16"),
    *_sides("tandem", "with_tandem.py", "", "float32", "bfloat16", "int8"),
    *_sides("tandem (fast decode)", "with_tandem_fast_decode.py", "", "float32", "bfloat16", "int8"),
    *_sides("tandem (torch)", "with_tandem_torch.py", "", "float32"),
]
SIDES = {side.name: side for side in _ALL}
_OURS = ("tandem float32", "tandem bfloat16", "tandem int8")
_PEERS = tuple(name for name, side in SIDES.items() if not side.is_ours and "77" not in side.library)
_FAST = tuple(name for name in SIDES if "fast decode" in name)
_PADDED = tuple(name for name in SIDES if "77" in name)
_OPEN_CLIP = ("open_clip float32", "open_clip bfloat16")
_L14 = tuple(name for name in _PEERS if name.startswith(("transformers", "optimum")))


@dataclass(frozen=True)
class Row:
    """One comparison. `count` is how many images or texts a side does in a round.

    Rounds end when `seconds` are over, but not before `LEAST_ROUNDS`.
    """

    key: str
    title: str
    unit: str
    model: str
    work: Work
    sides: tuple[str, ...]
    seconds: float
    count: int = 0
    batch: int = 0
    others: tuple[str, ...] = ()  # sides with `OTHER_MODEL`: what an aim compares with


LEAST_ROUNDS = 3
MOST_ROUNDS = 9

ROWS = {
    row.key: row
    for row in (
        Row("images", "ViT-B/32, images in batches of 32", "images/s", "vit-b-32", "images",
            _PEERS + _OURS, 60, count=32, batch=32),
        Row("image", "ViT-B/32, one image at a time", "images/s", "vit-b-32", "images",
            _PEERS + _OURS, 45, count=16, batch=1),
        Row("prompts", "ViT-B/32, prompts of at most 16 tokens", "texts/s", "vit-b-32", "texts",
            _PEERS + _PADDED + _OURS, 60, count=128),
        Row("files", "ViT-B/32, JPEG files to vectors in a file", "images/s", "vit-b-32", "files",
            _PEERS + _OURS, 200, count=200),
        Row("large", "ViT-B/32, JPEG files of 12 megapixels to vectors", "images/s", "vit-b-32", "files",
            _PEERS + _OURS + _FAST, 60, count=12),
        Row("photo", "ViT-B/32, one photo classified, whole process", "s", "vit-b-32", "photo",
            _PEERS + _OURS, 120),
        Row("l14", "ViT-L/14, images in batches of 8", "images/s", "vit-l-14", "images",
            _L14 + _OURS, 90, count=8, batch=8),
        Row("rn50", "RN50, images in batches of 32", "images/s", "rn50", "images",
            ("tandem (torch) float32", *_OPEN_CLIP, *_OURS), 40, count=32, batch=32),
        Row("mobileclip", "MobileCLIP2-S0, images in batches of 32", "images/s", "mobileclip2-s0", "images",
            (*_OPEN_CLIP, *_OURS), 40, count=32, batch=32, others=(BASE,)),
        Row("search", "ViT-B/32, text search through the server, 16 clients, 10,000 images, p50", "ms", "vit-b-32",
            "search", _OURS, 45),
        Row("mini", "tandem-mini quantised", "points", "tandem-mini", "accuracy",
            ("tandem float32", "tandem int8"), 60),
    )
}  # fmt: skip


def shown(row: str, side: str) -> str:
    """A side's name, with its model where that is another than the row's."""
    return f"{side}, ViT-B/32" if side in ROWS[row].others else side


LOWER_IS_BETTER = ("s", "ms")


@dataclass(frozen=True)
class Aim:
    """At least so many times as fast as another side, or as the strongest peer at the same precision.

    `ours` is our precision; empty for the fastest of them.
    """

    row: str
    ours: str
    over: str
    at_least: float
    library: str = "tandem"


AIMS = (
    Aim("images", "int8", BASE, 5),
    Aim("image", "int8", BASE, 5.5),
    Aim("prompts", "int8", BASE, 22),
    Aim("prompts", "int8", "transformers (77 tokens) float32", 22),
    Aim("files", "", BASE, 4.5),
    Aim("large", "", BASE, 4),
    Aim("large", "", BASE, 4, "tandem (fast decode)"),
    Aim("photo", "", BASE, 8),
    Aim("l14", "int8", BASE, 4.5),
    *(
        Aim(row, precision, STRONGEST, at_least)
        for row, at_least in (("images", 1.2), ("image", 1.5), ("prompts", 5), ("files", 1.5), ("photo", 4))
        for precision in ("float32", "bfloat16", "int8")
    ),
    Aim("images", "int8", "tandem bfloat16", 1.6),
    Aim("image", "int8", "tandem bfloat16", 1.5),
    Aim("rn50", "int8", "tandem (torch) float32", 3),
    Aim("mobileclip", "int8", BASE, 7),
)
SEARCH_MS = 60.0  # p50, at most
POINTS = 0.5  # tandem-mini: what quantising may cost, at most


def chosen(names: str) -> list[Row]:
    """Rows by their keys, separated by commas or spaces; all for an empty text. Raises `ValueError` for others."""
    keys = names.replace(",", " ").split()
    unknown = [key for key in keys if key not in ROWS]
    if unknown:
        raise ValueError(f"rows: expected some of {', '.join(ROWS)}, got {unknown[0]!r}")
    return [row for key, row in ROWS.items() if not keys or key in keys]
