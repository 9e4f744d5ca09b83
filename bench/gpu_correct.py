"""`gpu.py correct`: vectors and gradients on a device, against the original's and those of a CPU."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_measure import Results, Row, table
from safetensors import safe_open

from tandem.config import PUBLISHED, ModelConfig, Preprocessing, ResNet, TextTransformer, VisionTransformer
from tandem.engine.torch import TorchEngine
from tandem.nn import CLIP, initialise, to_arrays
from tandem.train.model.towers import Towers
from tandem.train.objective.device_batch import DeviceBatch
from tandem.train.objective.objective import ContrastiveObjective
from tandem.train.parallel.process import single_process
from tandem.train.recipe import Parallel, Recipe, Source
from tandem.train.step.gradient import gradient

PASSES = 3  # as it is, recorded, repeated

# The least cosine between a vector and the reference's, and the largest relative error of a gradient
BOUNDS = {"float32": (1 - 1e-5, 1e-3), "bfloat16": (0.999, 0.05), "float16": (0.9999, 0.0)}


def correct(device: torch.device, results: Results, golden: Path, tiny: bool) -> bool:
    """Whether everything is within its bounds."""
    rows: list[Row] = []
    for which in ("vit-tiny", "resnet-tiny"):
        if not (golden / f"{which}.npz").is_file():
            print(f"golden file {which}: not in {golden}, left out (--golden FOLDER)")
            continue
        for precision in BOUNDS:
            case = f"correct {which} {precision}"
            rows += results.case(case, lambda w=which, p=precision: _golden(golden, w, p, device))
    for precision in BOUNDS:
        for name in ("ViT-B/32", "RN50"):
            case = f"correct {name} {precision} {tiny}"
            rows += results.case(case, lambda n=name, p=precision: _against_cpu(n, p, device, tiny))
    for precision in ("float32", "bfloat16"):
        rows += results.case(f"correct gradient {precision}", lambda p=precision: _gradients(p, device))
    columns = ("what", "precision", "against", "least cosine", "largest difference", "bound", "within")
    table("Correct on the device", columns, rows)
    return all(row["within"] == "yes" for row in rows)


def read_golden(folder: Path, which: str) -> tuple[ModelConfig, dict[str, np.ndarray], Any]:
    """Configuration, tensors and the original's inputs and outputs. Its pixels are normalised already."""
    with safe_open(folder / f"{which}.safetensors", "np") as file:
        given = json.loads(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  no mapping
    size, width, layers = given["image_resolution"], given["vision_width"], given["vision_layers"]
    vision: VisionTransformer | ResNet = ResNet(size, tuple(layers), width, width // 2) if which[0] == "r" else (
        VisionTransformer(size, given["vision_patch_size"], width, layers, width // 64, 4 * width, "quick_gelu")
    )  # fmt: skip
    words, w = given["vocab_size"], given["transformer_width"]
    text = TextTransformer(
        given["context_length"], words, w, given["transformer_layers"], given["transformer_heads"], 4 * w, "quick_gelu",
        start_id=words - 2, end_id=words - 1,
    )  # fmt: skip
    config = ModelConfig(given["embed_dim"], vision, text, Preprocessing(size, mean=(0, 0, 0), std=(1 / 255,) * 3))
    weights = {name: array for name, array in tensors.items() if not name.endswith("num_batches_tracked")}
    return config, weights, np.load(folder / f"{which}.npz")


def random_model(name: str, tiny: bool) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """A published architecture with random weights; tiny: one layer or block of each kind, 64 pixels."""
    config = PUBLISHED[name]
    if tiny:
        small = replace(config.text, layers=1, width=64, heads=2, mlp_width=128)
        if isinstance(config.vision, ResNet):
            vision: Any = replace(config.vision, image_size=64, layers=(1, 1, 1, 1), width=16, heads=4)
        else:
            vision = replace(config.vision, image_size=64, width=64, layers=1, heads=2, mlp_width=128)
        config = replace(config, vision=vision, text=small, preprocessing=replace(config.preprocessing, image_size=64))
    return config, to_arrays(initialise(CLIP(config), 1))


def random_inputs(config: ModelConfig, n: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 pixels [n s s 3] and ids [n 77] of 5 to 20 tokens."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (n, *config.preprocessing.pixel_shape), np.uint8)
    ids = np.zeros((n, config.text.context_length), np.int32)
    for row, length in zip(ids, draw.integers(5, 21, n), strict=True):
        words = draw.integers(1, config.text.start_id, length - 2)
        row[:length] = [config.text.start_id, *words, config.text.end_id]
    return pixels, ids


def _row(what: str, precision: str, against: str, passes: list[np.ndarray], expected: np.ndarray) -> Row:
    """The worst of several passes."""
    found = np.concatenate(passes)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (found, np.tile(expected, (len(passes), 1)))]
    cosine, bound = float((unit[0] * unit[1]).sum(1).min()), BOUNDS[precision][0]
    difference = float(abs(unit[0] - unit[1]).max())
    within = "yes" if np.isfinite(found).all() and cosine >= bound else "NO"
    return {
        "what": what, "precision": precision, "against": against, "least cosine": f"{cosine:.7f}",
        "largest difference": f"{difference:.1e}", "bound": f"{bound:.5f}", "within": within,
    }  # fmt: skip


def _golden(folder: Path, which: str, precision: str, device: torch.device) -> list[Row]:
    config, tensors, expected = read_golden(folder, which)
    engine = TorchEngine(config, tensors, str(device), precision)
    pixels = np.ascontiguousarray(expected["pixels"].transpose(0, 2, 3, 1))
    rows = []
    for side, encode, given in (
        ("image", engine.encode_images, pixels),
        ("text", engine.encode_texts, expected["token_ids"]),
    ):
        found = [encode(given) for _ in range(PASSES)]
        rows.append(_row(f"{which}, {side}s", precision, "the original", found, expected[f"{side}_features"]))
    return rows


def _against_cpu(name: str, precision: str, device: torch.device, tiny: bool) -> list[Row]:
    config, tensors = random_model(name, tiny)
    pixels, ids = random_inputs(config, 5 if tiny else 300)  # 300: a full batch of 256, and one that is padded
    there, here = TorchEngine(config, tensors, str(device), precision), TorchEngine(config, tensors)
    against = "torch on the CPU, float32"
    expected = here.encode_images(pixels), here.encode_texts(ids)
    rows = [
        _row(f"{name}, images", precision, against, [there.encode_images(pixels) for _ in range(PASSES)], expected[0]),
        _row(f"{name}, texts", precision, against, [there.encode_texts(ids) for _ in range(PASSES)], expected[1]),
    ]
    if device.type == "cuda" and name == "ViT-B/32":
        there.compile_image_tower()
        found = [there.encode_images(pixels) for _ in range(PASSES)]
        rows.append(_row(f"{name}, images, compiled", precision, against, found, expected[0]))
    return rows


def _gradients(precision: str, device: torch.device) -> list[Row]:
    """Every parameter's gradient of one step, in one vector, against float64 on the CPU."""
    config, _ = random_model("ViT-B/32", tiny=True)
    pixels, ids = random_inputs(config, 12)
    recipe = Recipe("gpu", "", config, (Source("", per_batch=1),), 1)
    found: dict[str, torch.Tensor] = {}
    for key, place in (("there", device), ("reference", torch.device("cpu"))):
        model = initialise(CLIP(config), 1).to(place)
        model = model.double() if key == "reference" else model
        towers = Towers(model, precision if key == "there" else "float32").to(place)  # type: ignore[arg-type]
        objective = ContrastiveObjective(model, recipe)
        batch = DeviceBatch(torch.from_numpy(pixels).to(place), torch.from_numpy(ids), len(ids), len(ids))
        gradient(towers, objective, batch, Parallel(micro_batches=2), single_process(place))
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        found[key] = torch.cat([g.detach().double().cpu().flatten() for g in grads])
    error = float((found["there"] - found["reference"]).norm() / found["reference"].norm())
    cosine = float(torch.nn.functional.cosine_similarity(found["there"], found["reference"], dim=0))
    bound = BOUNDS[precision][1]
    return [
        {
            "what": "gradient of a step, two micro-batches", "precision": precision,
            "against": "the CPU, float64", "least cosine": f"{cosine:.7f}",
            "largest difference": f"{error:.1e} (relative)", "bound": f"{bound:g} (relative)",
            "within": "yes" if error <= bound else "NO",
        }
    ]  # fmt: skip
