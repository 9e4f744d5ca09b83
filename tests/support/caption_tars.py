"""Tars of images with captions, as data sets come."""

import io
import json
import tarfile
from pathlib import Path

from support import toy


def captioned_tar(path: Path, images: int, *, bad: bool = False) -> Path:
    """Two captions for each image; with `bad`, the fourth is no image."""
    with tarfile.open(path, "w") as tar:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        for seed in range(images):
            file = io.BytesIO()
            toy.random_image(seed).save(file, "png")
            add(f"{seed:03}.png", b"no image" if bad and seed == 3 else file.getvalue())
            add(f"{seed:03}.json", json.dumps({"captions": [f"cat {seed % 7} do{seed}", f"a cat do {seed}"]}).encode())
    return path
