"""Real photos that come inside scikit-image and scikit-learn: nothing is downloaded, and neither is imported."""

from importlib.util import find_spec
from pathlib import Path

from tandem.errors import MissingExtraError

PHOTOS = {
    "skimage": ("data/chelsea.png", "data/astronaut.png", "data/coffee.png", "data/rocket.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}


def sample_photos(purpose: str, extra: str = "demo") -> list[str]:
    """The photos that are installed, in a fixed order. Raises `MissingExtraError`, which names `extra`, without any."""
    found: list[str] = []
    for package, files in PHOTOS.items():
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            found += [str(path) for file in files if (path := Path(folder) / file).is_file()]
    if not found:
        raise MissingExtraError("scikit-image and scikit-learn", extra, purpose)
    return found
