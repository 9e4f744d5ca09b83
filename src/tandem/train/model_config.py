"""The table `[model]` of a recipe, filled up by what the checkpoints of its `[init]` say. Plain tables; needs no torch.

A recipe that begins with somebody's model need not spell out its sizes; what it does spell out stands.
"""

from collections.abc import Mapping
from typing import Any

from tandem.config import ModelConfig, Preprocessing, ResNet, TextTransformer, VisionTransformer, to_dict
from tandem.errors import ConfigError
from tandem.train import typed


def inherit(model: Mapping[str, Any], init: Mapping[str, Any]) -> dict[str, Any]:
    """The table `[model]`, filled up from the models that the table `[init]` names; a complete one as it is.

    Raises `WeightsError` or `HubError` where one cannot be read.
    """
    if "type" in (model.get("vision") or {}) and "width" in (model.get("text") or {}) and "embed_dim" in model:
        return dict(model)
    from tandem.weights import read_tensors  # needed where a checkpoint is named, and there only

    whole = str(init.get("model", ""))
    sources = {side: str(init.get(side, "")) or whole for side in ("image", "text")}
    known = {name: to_dict(read_tensors(name)[0]) for name in dict.fromkeys(sources.values()) if name}
    filled = dict(model)
    image, text = known.get(sources["image"]), known.get(sources["text"])
    if image:
        own = dict(model.get("vision") or {})
        # Of another kind of tower, nothing can be inherited: the recipe has to say all.
        same_kind = own.get("type", image["vision"]["type"]) == image["vision"]["type"]
        filled["vision"] = {**image["vision"], **own} if same_kind else own
        size = {"image_size": filled["vision"].get("image_size", image["vision"]["image_size"])}
        filled["preprocessing"] = {**image["preprocessing"], **size, **(model.get("preprocessing") or {})}
    if text:
        filled["text"] = {**text["text"], **(model.get("text") or {})}
    if some := image or text:
        filled.setdefault("embed_dim", some["embed_dim"])
    if image and image is text:
        for fact in ("licence", "data"):
            filled.setdefault(fact, image[fact])
    return filled


def model_of(model: Mapping[str, Any], name: str) -> ModelConfig:
    """The table `[model]` as a configuration. Raises `ConfigError` that names the field."""
    vision = dict(model.get("vision") or {})
    if "type" not in vision:
        raise ConfigError("model.vision.type: missing; expected 'resnet' or 'vision_transformer'")
    kind = ResNet if vision.pop("type") == "resnet" else VisionTransformer
    tower: ResNet | VisionTransformer = typed.build(kind, vision, "model.vision.")
    text = typed.build(TextTransformer, dict(model.get("text") or {}), "model.text.")
    preprocessing = {"image_size": tower.image_size, **model.get("preprocessing", {})}
    return ModelConfig(
        embed_dim=model.get("embed_dim", 512),
        vision=tower,
        text=text,
        preprocessing=typed.build(Preprocessing, preprocessing, "model.preprocessing."),
        name=name,
        **{key: model[key] for key in ("licence", "data", "notes") if key in model},
    )
