"""optimum-intel: `OVModelForZeroShotImageClassification`, exported to OpenVINO and compiled for the CPU.

Its `forward` computes both towers, whatever is wanted of them. Here each tower is cut out of its model and compiled by
itself, which is more than its interface offers: so it is compared at its best. int8 is its own `OVQuantizer`, with the
SmoothQuant strength that it keeps for the published CLIP models; what stays in floating point is computed in bfloat16
where the processor has it, OpenVINO's default.
"""

import shutil
from pathlib import Path
from typing import Any

PACKAGES = ("optimum-intel", "openvino", "nncf", "transformers", "torch")
BATCH = 32
CHUNK = 64
HINTS = {"float32": {"INFERENCE_PRECISION_HINT": "f32"}, "bfloat16": {"INFERENCE_PRECISION_HINT": "bf16"}, "int8": {}}
SMOOTH_QUANT_ALPHA = 0.6


def _folder(scratch: str, precision: str) -> Path:
    return Path(scratch) / ("int8" if precision == "int8" else "float32")


def prepare(model: str, scratch: str, precision: str, photos: list[str], texts: list[str]) -> None:
    """float32/ and int8/: the whole model in OpenVINO's format, with its processor."""
    exported, wanted = _folder(scratch, "float32"), _folder(scratch, precision)
    if exported.is_dir() and wanted.is_dir():
        return
    from optimum.intel import OVModelForZeroShotImageClassification
    from transformers import CLIPProcessor

    processor = CLIPProcessor.from_pretrained(model)
    if not exported.is_dir():
        # load_in_8bit: False, else it compresses the weights of large models by itself
        made = OVModelForZeroShotImageClassification.from_pretrained(
            model, export=True, compile=False, load_in_8bit=False
        )
        _save(made, processor, exported)
    if wanted != exported:
        _save(_quantised(exported, processor, photos, texts), processor, wanted)


def _save(made: Any, processor: Any, folder: Path) -> None:
    """The folder is whole, or not there."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    made.save_pretrained(part)
    processor.save_pretrained(part)
    part.rename(folder)


def _quantised(exported: Path, processor: Any, photos: list[str], texts: list[str]) -> Any:
    import nncf
    from optimum.intel import OVConfig, OVModelForZeroShotImageClassification, OVQuantizationConfig, OVQuantizer
    from PIL import Image

    made = OVModelForZeroShotImageClassification.from_pretrained(exported, compile=False)
    samples = []
    for photo, text in zip(photos, texts, strict=False):
        inputs = processor(text=[text], images=Image.open(photo), return_tensors="np", padding=True)
        samples.append(dict(inputs))
    settings = OVQuantizationConfig(bits=8, num_samples=len(samples), smooth_quant_alpha=SMOOTH_QUANT_ALPHA)
    OVQuantizer(made).quantize(
        ov_config=OVConfig(quantization_config=settings), calibration_dataset=nncf.Dataset(samples)
    )
    return made


def _open(scratch: str, precision: str, threads: int) -> Any:
    from optimum.intel import OVModelForZeroShotImageClassification

    settings = {"INFERENCE_NUM_THREADS": threads, **HINTS[precision]}
    return OVModelForZeroShotImageClassification.from_pretrained(
        _folder(scratch, precision), ov_config=settings, compile=False
    )


def classify(model: str, scratch: str, precision: str, threads: int, photo: str, labels: list[str]) -> dict[str, float]:
    from PIL import Image
    from transformers import CLIPProcessor

    network = _open(scratch, precision, threads)
    processor = CLIPProcessor.from_pretrained(_folder(scratch, precision))
    texts = [f"a photo of a {label}." for label in labels]
    inputs = processor(text=texts, images=Image.open(photo), return_tensors="pt", padding=True)
    probabilities = network(**inputs).logits_per_image.softmax(dim=1)[0]
    return dict(zip(labels, probabilities.tolist(), strict=True))


class Peer:
    def __init__(self, model: str, scratch: str, precision: str, threads: int) -> None:
        import openvino
        from transformers import CLIPProcessor

        self._processor = CLIPProcessor.from_pretrained(_folder(scratch, precision))
        self._threads = threads
        whole = _open(scratch, precision, threads)
        core = openvino.Core()
        settings = {"INFERENCE_NUM_THREADS": threads, **HINTS[precision]}
        inputs = {each.get_any_name(): each.get_node() for each in whole.model.inputs}
        towers = {"image_embeds": ["pixel_values"], "text_embeds": ["input_ids", "attention_mask"]}
        self._towers = {
            output: core.compile_model(
                openvino.Model([whole.model.output(output)], [inputs[name] for name in names if name in inputs]),
                "CPU",
                settings,
            )
            for output, names in towers.items()
        }

    def image_input(self, pixels: Any) -> Any:
        from normalising import normalised

        return normalised(pixels, self._processor.image_processor)

    def encode_images(self, ready: Any) -> Any:
        return self._towers["image_embeds"]({"pixel_values": ready})[0].copy()

    def encode_texts(self, texts: list[str]) -> Any:
        import numpy as np

        vectors = []
        for i in range(0, len(texts), CHUNK):
            inputs = self._processor(text=texts[i : i + CHUNK], return_tensors="np", padding=True)
            vectors.append(self._towers["text_embeds"](dict(inputs))[0].copy())
        return np.concatenate(vectors)

    def embed_files(self, paths: list[str]) -> Any:
        import numpy as np
        from torch_loading import batches

        loaded = batches(paths, self._processor.image_processor, BATCH, self._threads)
        return np.concatenate([self.encode_images(pixels.numpy()) for pixels in loaded])
