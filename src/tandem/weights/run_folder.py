"""The model in a training run's folder, at any time: finished, the best so far, or the newest checkpoint."""

from pathlib import Path

from tandem.errors import WeightsError


def model_in_run(folder: Path) -> Path | None:
    """The model folder that stands for a run: `model`, else `best`, else the newest of `checkpoints`.

    None where `folder` is no run. Raises `WeightsError` for a run that has saved nothing yet.
    """
    if (folder / "config.json").exists() or not (folder / "recipe.json").is_file():
        return None
    newest = sorted((folder / "checkpoints").glob("step-*"), reverse=True)
    for place in (folder / "model", folder / "best", *newest):
        if (place / "config.json").is_file():
            return place
    raise WeightsError(f"{folder}: a training run that has saved no model yet; wait for its first checkpoint")
