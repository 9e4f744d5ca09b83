"""Between two models: weights averaged tensor by tensor (WiSE-FT, Wortsman et al. 2022). Needs no torch."""

from pathlib import Path

from tandem.weights import Checkpoint


def interpolate(a: Checkpoint, b: Checkpoint, alpha: float) -> Checkpoint:
    """(1 - alpha) a + alpha b. Raises `ConfigError` unless architecture, preprocessing and tokenizer are equal."""
    raise NotImplementedError


def interpolate_folders(a: str, b: str, alpha: float, target: Path, *, overwrite: bool = False) -> Path:
    """Read both, write the model between them."""
    raise NotImplementedError
