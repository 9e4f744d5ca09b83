"""`gpu.py encode` and `gpu.py files`: images a second, in memory and from JPEG files, with transformers beside them."""

import io
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_correct import random_inputs, random_model
from gpu_measure import OUT_OF_MEMORY, Results, Row, alternate, forget_peak, matrix_rate, operations, peak_gb, table
from PIL import Image

import tandem.engine.torch as engine_module
from tandem.config import ModelConfig
from tandem.engine.torch import TorchEngine
from tandem.image import Limits, decode_stream
from tandem.model import Model
from tandem.tokenizer import Tokenizer
from tandem.weights import Checkpoint

BATCHES_A_CALL = 4


def encode(
    device: torch.device,
    results: Results,
    models: list[str],
    batches: list[int],
    precision: str,
    rounds: int,
    tiny: bool,
) -> None:
    """images/s of each model and batch, and the share of the chip's matrix rate, measured beside them."""
    rows: list[Row] = []
    for name in models:
        for batch in batches:
            case = f"encode {name} {batch} {precision} {rounds} {tiny}"
            rows += results.case(case, partial(_encode, device, name, batch, precision, rounds, tiny))
    table(
        f"Encoding in {precision}: tandem from uint8 on the host to vectors on the host, transformers from normalised "
        "pixels on the device",
        ("model", "batch", "side", "images/s", "TFLOP/s", "share of the matrix rate", "peak GB"),
        rows,
    )


def _encode(device: torch.device, name: str, batch: int, precision: str, rounds: int, tiny: bool) -> list[Row]:
    config, tensors = random_model(name, tiny)
    pixels, _ = random_inputs(config, batch)
    pixels = np.concatenate([pixels] * BATCHES_A_CALL)
    engine_module.BATCH_IMAGES[device.type] = batch
    rate = matrix_rate(device, precision)
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        "tandem": lambda: partial(TorchEngine(config, tensors, str(device), precision).encode_images, pixels),
        "tandem, compiled": lambda: partial(_compiled(config, tensors, device, precision).encode_images, pixels),
        "transformers": lambda: _theirs(config, batch, device, precision, False),
        "transformers, compiled": lambda: _theirs(config, batch, device, precision, True),
    }
    if device.type != "cuda":  # compiling for a CPU takes minutes: judged elsewhere
        makers = {side: make for side, make in makers.items() if "compiled" not in side}
    ways: dict[str, Callable[[], object]] = {}
    peaks: dict[str, float | None] = {}
    failed: dict[str, str] = {}
    for side, make in makers.items():
        forget_peak(device)
        try:
            ways[side] = make()
            ways[side]()
        except torch.OutOfMemoryError:
            failed[side], _ = OUT_OF_MEMORY, ways.pop(side, None)
        except ModuleNotFoundError as error:
            failed[side] = f"{error.name} is not installed"
        peaks[side] = peak_gb(device)
    each = operations(ways["tandem"]) / len(pixels) if "tandem" in ways else float("nan")
    taken = alternate(ways, device, rounds)
    rows: list[Row] = [{"model": name, "batch": batch, "side": side, "images/s": why} for side, why in failed.items()]
    for side, seconds in taken.items():
        images = len(pixels) / seconds
        rows.append(
            {
                "model": name, "batch": batch, "side": side, "images/s": images, "TFLOP/s": images * each / 1e12,
                "share of the matrix rate": images * each / rate, "peak GB": peaks[side],
            }
        )  # fmt: skip
    rows.append({"model": name, "batch": batch, "side": "matrix product", "TFLOP/s": rate / 1e12})
    return rows


def _compiled(config: ModelConfig, tensors: Any, device: torch.device, precision: str) -> TorchEngine:
    engine = TorchEngine(config, tensors, str(device), precision)
    engine.compile_image_tower()
    return engine


def _theirs(
    config: ModelConfig, batch: int, device: torch.device, precision: str, compiled: bool
) -> Callable[[], object]:
    """transformers' image tower of the same sizes, its pixels ready on the device."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    vision = config.vision
    made = CLIPVisionConfig(
        hidden_size=vision.width, intermediate_size=vision.mlp_width, num_hidden_layers=vision.layers,
        num_attention_heads=vision.heads, image_size=vision.image_size, patch_size=vision.patch_size,
        projection_dim=config.embed_dim, hidden_act=vision.activation,
    )  # fmt: skip
    dtype = getattr(torch, precision)
    model = CLIPVisionModelWithProjection(made).to(device, dtype).eval()
    if compiled:
        model = torch.compile(model)
    size = vision.image_size
    ready = torch.randn(batch, 3, size, size, device=device, dtype=dtype)

    def work() -> object:
        with torch.inference_mode():
            return torch.cat([model(pixel_values=ready).image_embeds for _ in range(BATCHES_A_CALL)]).float().cpu()

    return work


def files(device: torch.device, results: Results, count: int, precision: str, tiny: bool) -> None:
    """JPEG files to vectors: which part bounds it, and what decoding on the GPU changes."""
    case = f"files {count} {precision} {tiny}"
    rows = results.case(case, partial(_files, device, count, precision, tiny))
    table(f"{count} JPEG files of 640 x 480 to vectors, ViT-B/32 in {precision}", ("what", "images/s", "note"), rows)


def _files(device: torch.device, count: int, precision: str, tiny: bool) -> list[Row]:
    config, tensors = random_model("ViT-B/32", tiny)
    engine = TorchEngine(config, tensors, str(device), precision)
    model = Model(Checkpoint(config, tensors, Tokenizer.clip(), "bench"), engine)
    batch = min(256, count)
    with tempfile.TemporaryDirectory() as folder:
        paths = _photos(Path(folder), count)
        decoded = [image for _, image in decode_stream(paths[:batch], config.preprocessing, limits=Limits())]
        pixels = np.stack(decoded)
        engine.encode_images(pixels)  # eagerly; the next time recorded
        engine.encode_images(pixels)
        rates: list[Row] = []

        def rate(what: str, work: Callable[[], object], note: str = "") -> Any:
            start = time.perf_counter()
            done = work()
            rates.append({"what": what, "images/s": count / (time.perf_counter() - start), "note": note})
            return done

        rate("decoding alone", lambda: sum(1 for _ in decode_stream(paths, config.preprocessing, limits=Limits())))
        rate("encoding alone", lambda: [engine.encode_images(pixels) for _ in range(0, count, batch)])
        ours = rate("both: Model.embed_images", lambda: model.embed_images(paths, batch_size=batch, progress=False))
        bound = min(rates[:2], key=lambda row: row["images/s"])
        rates[2]["note"] = f"{rates[2]['images/s'] / bound['images/s']:.2f} of {bound['what']}, which bounds it"
        found = None
        with suppress(ModuleNotFoundError):
            import torchvision.io  # noqa: F401  the decoder is in it

            found = rate("decoding on the GPU too (torchvision)", lambda: _on_gpu(paths, engine, device, batch))
        if found is None:
            rates.append({"what": "decoding on the GPU too", "note": "torchvision is not installed: not measured"})
        else:
            cosines = (found * ours).sum(1)
            rates[-1]["note"] = f"cosine to ours: least {cosines.min():.4f}, mean {cosines.mean():.4f}"
    return rates


def _on_gpu(paths: list[Path], engine: TorchEngine, device: torch.device, batch: int) -> np.ndarray:
    """Decoded by nvJPEG, resized and cropped on the device; its pixels differ a little from Pillow's."""
    from torchvision.io import ImageReadMode, decode_jpeg

    size = engine.config.preprocessing.image_size
    parts = []
    for start in range(0, len(paths), batch):
        data = [
            torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8) for path in paths[start : start + batch]
        ]
        rows = []
        for image in decode_jpeg(data, mode=ImageReadMode.RGB, device=str(device)):
            height, width = image.shape[1:]
            to = (size, int(size * width / height)) if height <= width else (int(size * height / width), size)
            resized = torch.nn.functional.interpolate(image[None].float(), to, mode="bicubic", antialias=True)
            top, left = (round((side - size) / 2) for side in to)
            rows.append(resized[0, :, top : top + size, left : left + size].clamp(0, 255).round())
        pixels = torch.stack(rows).movedim(1, -1)
        with torch.inference_mode(), engine._autocast():
            parts.append(engine._of_images(pixels, batch, True).cpu().numpy())
    return np.concatenate(parts)


def _photos(folder: Path, count: int) -> list[Path]:
    """Smooth random pictures, which compress about as photos do."""
    draw, paths = np.random.default_rng(0), []
    for number in range(count):
        small = Image.fromarray(draw.integers(0, 256, (24, 32, 3), np.uint8)).resize(
            (640, 480), Image.Resampling.BICUBIC
        )
        noisy = np.asarray(small, np.int16) + draw.integers(-8, 9, (480, 640, 1))
        memory = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(memory, "JPEG", quality=90)
        path = folder / f"{number:06}.jpg"
        path.write_bytes(memory.getvalue())
        paths.append(path)
    return paths
