"""The table `[model]` of a recipe, filled from the checkpoints that `[init]` names. Plain tables; needs no torch.

A recipe that starts from an existing model need not spell out its sizes; what it does spell out stands.
"""

from collections.abc import Mapping
from typing import Any

from tandem.config import ModelConfig, to_dict
from tandem.towers import TEXT_TOWERS


def config_from_checkpoint(
    model: Mapping[str, Any], init: Mapping[str, Any], after: ModelConfig | None = None
) -> dict[str, Any]:
    """The table `[model]`, filled from the models that the table `[init]` names; a complete one is unchanged.

    after: the model that the run of `init.recipe` ends with. Raises `WeightsError` or `HubError` if one cannot be read.
    """
    if "type" in _table(model, "vision") and "width" in _table(model, "text") and "embed_dim" in model:
        return dict(model)
    if any(not isinstance(model.get(key, {}), Mapping) for key in ("vision", "text", "preprocessing")):
        return dict(model)  # refused when the whole is read
    from tandem.weights import read_tensors  # only where a checkpoint is named: it takes time to import

    both = str(init.get("model", ""))
    sources = {tower: str(init.get(tower, "")) or both for tower in ("image", "text")}
    known = {name: to_dict(read_tensors(name)[0]) for name in dict.fromkeys(sources.values()) if name}
    if after is not None:
        known.setdefault("", to_dict(after))  # for a tower that no model is named for
    filled = dict(model)
    image, text = known.get(sources["image"]), known.get(sources["text"])
    if image:
        own = _table(model, "vision")
        if not own and "timm_model" in image:
            filled.setdefault("timm_model", image["timm_model"])
        # Nothing can be taken from another kind of tower: the recipe has to spell it out.
        same_kind = own.get("type", image["vision"]["type"]) == image["vision"]["type"]
        filled["vision"] = {**image["vision"], **own} if same_kind else own
        size = filled["vision"].get("image_size", image["vision"].get("image_size"))
        sizes = {} if size is None else {"image_size": size}
        filled["preprocessing"] = {**image["preprocessing"], **sizes, **_table(model, "preprocessing")}
    if text:
        own = _table(model, "text")
        default = next(iter(TEXT_TOWERS))
        same_kind = own.get("type", text["text"].get("type", default)) == text["text"].get("type", default)
        filled["text"] = {**text["text"], **own} if same_kind else own
    if some := image or text:
        filled.setdefault("embed_dim", some["embed_dim"])
    if image and image is text:
        for fact in ("licence", "data"):
            filled.setdefault(fact, image[fact])
    return filled


def complete_model(model: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The table `[model]` completed: the name of the run, and the image size for preprocessing."""
    table = {key: value for key, value in model.items() if key not in ("format", "version")}  # of a config.json
    table = {"name": name, "embed_dim": 512, **table}
    vision, preprocessing = table.get("vision"), table.get("preprocessing", {})
    if isinstance(vision, Mapping) and "image_size" in vision and isinstance(preprocessing, Mapping):
        table["preprocessing"] = {"image_size": vision["image_size"], **preprocessing}
    return table


def _table(model: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A table within `[model]`, an empty one if there is none."""
    value = model.get(key)
    return dict(value) if isinstance(value, Mapping) else {}
