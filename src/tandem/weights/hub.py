"""Hub names -> a local folder with the files that a model needs, and no others.

The configuration comes first and decides which files follow. Knows file names, and of contents the layout alone; how a
file comes from the hub is `repository`'s.
"""

from pathlib import Path

from tandem.errors import HubError, WeightsError
from tandem.weights import folder, open_clip, transformers
from tandem.weights.json_files import read_json
from tandem.weights.published import hub_cache_folder
from tandem.weights.repository import Repository, is_offline
from tandem.weights.tensor_files import shard_names


def fetch(repository: str, revision: str | None = None, *, missing: str = "") -> Path:
    """The local folder of a hub repository, with everything `read` needs in it.

    Files are taken from the cache where they are current. Raises `HubError` in one line: not found, gated, offline and
    not cached, unreachable; those of one that is not there begin with `missing`.
    """
    files = Repository(repository, revision, offline=is_offline(), missing=missing)
    if not files.offline:
        files.check_reachable()
    described, config = files.get(open_clip.CONFIG), files.get("config.json")
    candidates: tuple[str, ...]
    if config and read_json(config).get("format") == "tandem":
        candidates = (folder.WEIGHTS,)
    elif described:
        candidates = (*open_clip.WEIGHTS, *open_clip.OTHER_WEIGHTS)
        for name in open_clip.language_model_files():
            files.get(name)
    elif config:
        candidates = transformers.WEIGHTS
        files.first(transformers.PREPROCESSORS)
    else:
        raise files.lacks(f"a model (config.json or {open_clip.CONFIG})")
    files.tokenizer()
    weights = files.first(candidates)
    if weights is None:
        raise files.lacks(f"weights (one of {', '.join(candidates)})")
    if weights.name.endswith(".index.json"):
        for name in shard_names(read_json(weights), weights):
            if files.get(name) is None:
                raise files.lacks(f"{name}, a shard of {weights.name}")
    return weights.parent


def cached(repository: str) -> Path | None:
    """The folder of a transformers repository that is already in the local cache; nothing is downloaded."""
    if not (hub_cache_folder() / f"models--{repository.replace('/', '--')}").is_dir():
        return None
    files = Repository(repository, None, offline=True)
    try:
        config = files.get("config.json")
        weights = files.first(("model.safetensors", "pytorch_model.bin"))
    except (HubError, WeightsError):
        return None
    return weights.parent if config and weights and weights.parent == config.parent else None
