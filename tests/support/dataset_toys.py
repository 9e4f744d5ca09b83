"""Small data sets in every layout, of images that no other seed gives."""

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.images import encoded
from support.toy import random_image


def png(seed: int) -> bytes:
    """An encoded image of 8 x 6 pixels."""
    return encoded(random_image(seed, (8, 6)), "PNG")


def write_folder(root: Path, classes: Mapping[str, int]) -> Path:
    """`ROOT/class/0.png`, ...: so many images of each class, all of them different."""
    seed = sum(map(ord, root.name))
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            seed += 1
            (root / name / f"{number}.png").write_bytes(png(seed))
    return root


def write_tar(path: Path, samples: Sequence[Mapping[str, bytes]], mode: str = "w") -> Path:
    """A tar of samples: `0.png`, `0.cls`, ... by suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for number, sample in enumerate(samples):
            for suffix, content in sample.items():
                info = tarfile.TarInfo(f"{number}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path
