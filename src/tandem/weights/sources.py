"""What a user typed -> a local folder or file. Local paths come first, then published names, then hub names."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from tandem.errors import HubError, WeightsError
from tandem.files import user_path
from tandem.weights import published, unlisted_families
from tandem.weights.json_files import check_regular, read_json

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
# What config.json beside graphs says as its format: they serve other programs, and hold no tensors by name.
GRAPH_FORMATS = {"openvino": "tandem-openvino", "onnx": "tandem-onnx"}
_GRAPH_NAMES = {"tandem-openvino": "OpenVINO IR", "tandem-onnx": "ONNX"}
_FILE_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".json")


@dataclass(frozen=True)
class ModelFiles:
    """A model's local folder or file, and what its name alone tells about it."""

    path: Path
    name: str = ""
    licence: str = ""
    data: str = ""
    notes: dict[str, str] = field(default_factory=dict)


def locate(source: str | Path) -> ModelFiles:
    """Find, or download, what `source` names. Raises `WeightsError` or `HubError` that lists what is accepted."""
    text = str(source)
    path = user_path(text)
    if text and path.exists():
        path = model_in_run(path) or path
        if not path.is_dir():
            check_regular(path)
        _refuse_graphs(path)
        return ModelFiles(path)
    if isinstance(source, Path) or _looks_like_path(text):
        raise WeightsError(f"{text}: no such file or folder")
    if folder := published.shipped_folder(text):
        return ModelFiles(folder)
    if known := published.find(text):
        return _fetch_known(*known)
    hub_name = text.removeprefix("hf-hub:").removeprefix("hf://")
    if _HUB_NAME.fullmatch(hub_name):
        from tandem.weights.hub import fetch

        repository, _, revision = hub_name.partition("@")
        if known := published.find(repository):  # named with a revision
            return _fetch_known(*known, revision)
        missing = "no such folder here, and " if text == repository else ""  # it may be a path, mistyped
        return ModelFiles(fetch(repository, revision or None, missing=missing), name=repository)
    raise HubError(_not_found(text))


def _fetch_known(model: published.KnownModel, repository: str, revision: str = "") -> ModelFiles:
    """The files of a published checkpoint: from the hub, or OpenAI's own."""
    if repository:
        from tandem.weights.hub import fetch

        return ModelFiles(fetch(repository, revision or None), repository, model.licence, model.data)
    if revision:
        raise HubError(f"{model.name}@{revision}: {model.name} is one file of OpenAI's, without revisions")
    from tandem.weights.openai import fetch_published

    path, notes = fetch_published(model)
    return ModelFiles(path, model.name, model.licence, model.data, notes)


def _not_found(text: str) -> str:
    """What to say of a name that means nothing, or more than one model."""
    found = published.candidates(text)
    if len(found) > 1:
        return f"{text!r} means {len(found)} models; give one of them: {', '.join(found)}"
    if says := unlisted_families.answer(text):
        return f"{text!r}: {says}"
    near = found or published.near_names(text)
    hint = f"; near: {', '.join(near)}" if near else "; names are ViT-B/32, ViT-B-16-SigLIP2-256 and others"
    return (
        f"{text!r} is not a file, a folder, a published model or a hub name: expected a path, a name that "
        f"`tandem models` lists, or org/name[@revision]{hint}"
    )


def model_in_run(folder: Path) -> Path | None:
    """The model folder that stands for a run: `model`, else `best`, else the newest of `checkpoints`.

    None where `folder` is no run. Raises `WeightsError` for a run that has saved nothing yet.
    """
    if (folder / "config.json").exists() or not (folder / "recipe.json").is_file():
        return None
    newest = sorted((folder / "checkpoints").glob("step-*"), reverse=True)
    for model in (folder / "model", folder / "best", *newest):
        if (model / "config.json").is_file():
            return model
    raise WeightsError(f"{folder}: this training run has not saved a model yet; wait for its first checkpoint")


def _refuse_graphs(path: Path) -> None:
    config = path / "config.json"
    format = read_json(config).get("format") if config.is_file() else None
    if isinstance(format, str) and format in _GRAPH_NAMES:
        raise WeightsError(f"{path}: this is {_GRAPH_NAMES[format]}: load the model it was made from")


def _looks_like_path(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~", "\\")) or text in (".", "..") or text.endswith(_FILE_SUFFIXES)
