"""OpenAI's files by their published names: download, resume, checksum, cache.

A file enters the cache once its SHA-256 is right (`tandem.fetch`), so what is in the cache is whole.
"""

import sys
from pathlib import Path
from typing import Any

from tandem.errors import HubError
from tandem.fetch import Progress, download
from tandem.home import cache_folder
from tandem.weights.published import KnownModel

OPENAI_ROOT = "https://openaipublic.azureedge.net/clip/models"


def fetch_published(model: KnownModel) -> tuple[Path, dict[str, str]]:
    """A published model's file and notes about it: from our cache, Hugging Face's local cache, or OpenAI's server."""
    path = cache_folder() / model.file
    if path.is_file():
        return path, {}
    from tandem.weights.hub import cached
    from tandem.weights.repository import is_offline

    if model.hub and (folder := cached(model.hub)):
        note = f"{model.name} was found as {model.hub} in Hugging Face's cache: float32 where OpenAI's file has "
        note += "float16, so its fingerprint is another"
        return folder, {"source": note}
    if is_offline():
        raise HubError(
            f"{model.name} is not in {cache_folder()} and HF_HUB_OFFLINE is set; unset it, or put {model.file} there"
        )
    download(f"{OPENAI_ROOT}/{model.sha256}/{model.file}", path, model.sha256, progress=_bar(model.file))
    return path, {}


def _bar(name: str, stream: Any = None) -> Progress:
    """A line on standard error that counts up: in place on a terminal, every tenth of the way elsewhere."""
    out = stream or sys.stderr
    said = -1

    def show(done: int, total: int | None) -> None:
        nonlocal said
        percent = 100 * done // total if total else 0
        if percent <= said and done != total:
            return
        terminal = out.isatty()
        if terminal or percent // 10 > said // 10:
            of = f" of {total / 1e6:.0f}" if total else ""
            end = "\n" if not terminal or done == total else ""
            start = "\r" if terminal else ""
            print(f"{start}{name}: {done / 1e6:.0f}{of} MB", end=end, file=out, flush=True)
            said = percent

    return show
