"""The names of transformers that scripts with CLIP and SigLIP use, over Tandem's engine: change the import alone.

    from tandem.compat.transformers import CLIPModel, CLIPProcessor

What is not covered is refused by name (docs/compat.md).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tandem.compat.refusals import module_names

if TYPE_CHECKING:
    from tandem.compat.transformers.batches import BatchFeature
    from tandem.compat.transformers.batches import BatchFeature as BatchEncoding
    from tandem.compat.transformers.images import CLIPImageProcessor
    from tandem.compat.transformers.images import CLIPImageProcessor as AutoImageProcessor
    from tandem.compat.transformers.images import CLIPImageProcessor as CLIPImageProcessorFast
    from tandem.compat.transformers.images import CLIPImageProcessor as SiglipImageProcessor
    from tandem.compat.transformers.modelling import (
        AutoModel,
        AutoModelForZeroShotImageClassification,
        CLIPModel,
        SiglipModel,
    )
    from tandem.compat.transformers.pipelines import ZeroShotImageClassificationPipeline, pipeline
    from tandem.compat.transformers.processing import AutoProcessor, CLIPProcessor, SiglipProcessor
    from tandem.compat.transformers.single_towers import (
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPVisionModel,
        CLIPVisionModelWithProjection,
        SiglipTextModel,
        SiglipVisionModel,
    )
    from tandem.compat.transformers.tokenizing import CLIPTokenizer
    from tandem.compat.transformers.tokenizing import CLIPTokenizer as AutoTokenizer
    from tandem.compat.transformers.tokenizing import CLIPTokenizer as CLIPTokenizerFast
    from tandem.compat.transformers.tokenizing import CLIPTokenizer as SiglipTokenizer

__all__ = [
    "AutoImageProcessor",
    "AutoModel",
    "AutoModelForZeroShotImageClassification",
    "AutoProcessor",
    "AutoTokenizer",
    "BatchEncoding",
    "BatchFeature",
    "CLIPImageProcessor",
    "CLIPImageProcessorFast",
    "CLIPModel",
    "CLIPProcessor",
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
    "CLIPTokenizer",
    "CLIPTokenizerFast",
    "CLIPVisionModel",
    "CLIPVisionModelWithProjection",
    "SiglipImageProcessor",
    "SiglipModel",
    "SiglipProcessor",
    "SiglipTextModel",
    "SiglipTokenizer",
    "SiglipVisionModel",
    "ZeroShotImageClassificationPipeline",
    "pipeline",
]

_ROOM = "tandem.compat.transformers"
_HOMES = {name: f"{_ROOM}.modelling" for name in __all__ if "Model" in name} | {
    **{name: f"{_ROOM}.single_towers" for name in __all__ if "TextModel" in name or "VisionModel" in name},
    **dict.fromkeys(("AutoProcessor", "CLIPProcessor", "SiglipProcessor"), f"{_ROOM}.processing"),
    **dict.fromkeys(("ZeroShotImageClassificationPipeline", "pipeline"), f"{_ROOM}.pipelines"),
    **dict.fromkeys(("BatchFeature", "BatchEncoding"), f"{_ROOM}.batches:BatchFeature"),
    **{name: f"{_ROOM}.images:CLIPImageProcessor" for name in __all__ if "ImageProcessor" in name},
    **{name: f"{_ROOM}.tokenizing:CLIPTokenizer" for name in __all__ if "Tokenizer" in name},
}
_INSTEAD = {
    "CLIPForImageClassification": "`tandem learn` makes classifiers from labelled photos",
    "SiglipForImageClassification": "`tandem learn` makes classifiers from labelled photos",
    "CLIPConfig": "tandem.ModelConfig describes models",
    "SiglipConfig": "tandem.ModelConfig describes models",
    "Siglip2": "tandem.load reads SigLIP 2, of any aspect ratio too; those of fixed size are SiglipModel",
    "BitsAndBytesConfig": "bfloat16 is the reduced precision: dtype=torch.bfloat16",
    "CLIPFeatureExtractor": "CLIPImageProcessor is",
    "set_seed": "nothing is drawn at random",
    "Trainer": "`tandem train` trains",
    "TrainingArguments": "`tandem train` trains",
    "CLIPSeg": "`tandem locate` finds where in a picture something is",
    "Owl": "`tandem locate` finds where in a picture something is",
}

_find = module_names(__name__, _HOMES, _INSTEAD)


def __getattr__(name: str) -> Any:
    if name == "image_utils":  # the module, which scripts also reach without importing it
        return import_module(f"{_ROOM}.image_utils")
    globals()[name] = found = _find(name)
    return found


def __dir__() -> list[str]:
    return __all__
