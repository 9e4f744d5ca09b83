"""The names of transformers that scripts with CLIP and SigLIP use, over Tandem's engine: change the import alone.

    from tandem.compat.transformers import CLIPModel, CLIPProcessor

What is not covered is refused by name (docs/compat.md).
"""

from typing import TYPE_CHECKING, Any

from tandem.compat.refusals import STATES, module_names

if TYPE_CHECKING:
    from tandem.compat.transformers.modelling import (
        AutoModel,
        AutoModelForZeroShotImageClassification,
        CLIPModel,
        CLIPTextModelWithProjection,
        CLIPVisionModelWithProjection,
        SiglipModel,
    )
    from tandem.compat.transformers.pipelines import ZeroShotImageClassificationPipeline, pipeline
    from tandem.compat.transformers.processing import (
        AutoImageProcessor,
        AutoProcessor,
        AutoTokenizer,
        BatchEncoding,
        BatchFeature,
        CLIPImageProcessor,
        CLIPImageProcessorFast,
        CLIPProcessor,
        CLIPTokenizer,
        CLIPTokenizerFast,
        SiglipImageProcessor,
        SiglipProcessor,
        SiglipTokenizer,
    )

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
    "CLIPTextModelWithProjection",
    "CLIPTokenizer",
    "CLIPTokenizerFast",
    "CLIPVisionModelWithProjection",
    "SiglipImageProcessor",
    "SiglipModel",
    "SiglipProcessor",
    "SiglipTokenizer",
    "ZeroShotImageClassificationPipeline",
    "pipeline",
]

_MODELS = ("AutoModel", "AutoModelForZeroShotImageClassification", "CLIPModel", "SiglipModel")
_HOMES = (
    dict.fromkeys(__all__, "tandem.compat.transformers.processing")
    | dict.fromkeys(
        (*_MODELS, "CLIPTextModelWithProjection", "CLIPVisionModelWithProjection"),
        "tandem.compat.transformers.modelling",
    )
    | dict.fromkeys(("ZeroShotImageClassificationPipeline", "pipeline"), "tandem.compat.transformers.pipelines")
)
_INSTEAD = {
    "CLIPTextModel": f"CLIPTextModelWithProjection gives its states; {STATES}",
    "CLIPVisionModel": f"CLIPVisionModelWithProjection gives its states; {STATES}",
    "SiglipTextModel": f"SiglipModel.get_text_features is; {STATES}",
    "SiglipVisionModel": f"SiglipModel.get_image_features is; {STATES}",
    "CLIPForImageClassification": "`tandem learn` makes classifiers from labelled photos",
    "SiglipForImageClassification": "`tandem learn` makes classifiers from labelled photos",
    "CLIPConfig": "tandem.ModelConfig describes models",
    "SiglipConfig": "tandem.ModelConfig describes models",
    "Siglip2": "tandem.load reads SigLIP 2, of any aspect ratio too; those of fixed size are SiglipModel",
    "Trainer": "`tandem train` trains",
    "TrainingArguments": "`tandem train` trains",
    "CLIPSeg": "`tandem locate` finds where in a picture something is",
    "Owl": "`tandem locate` finds where in a picture something is",
}

_find = module_names(__name__, _HOMES, _INSTEAD)


def __getattr__(name: str) -> Any:
    globals()[name] = found = _find(name)
    return found


def __dir__() -> list[str]:
    return __all__
