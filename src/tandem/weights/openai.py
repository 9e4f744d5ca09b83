"""OpenAI's files by their published names: download, resume, checksum, cache.

A file enters the cache once its SHA-256 is right (`tandem.fetch`), so what is in the cache is whole.
"""

import sys
from pathlib import Path
from typing import Any

from tandem.errors import HubError
from tandem.fetch import Progress, download
from tandem.weights.published import OPENAI_FILES, OPENAI_ON_HUB, OPENAI_ROOT, cache_folder


def fetch_published(name: str) -> tuple[Path, dict[str, str]]:
    """A published model's file and notes about it: from our cache, Hugging Face's local cache, or OpenAI's server."""
    file, digest = OPENAI_FILES[name]
    path = cache_folder() / file
    if path.is_file():
        return path, {}
    from tandem.weights.hub import cached
    from tandem.weights.repository import is_offline

    repository = OPENAI_ON_HUB.get(name)
    if repository and (folder := cached(repository)):
        note = f"{name} was found as {repository} in Hugging Face's cache: float32 where OpenAI's file has float16, "
        note += "so its fingerprint is another"
        return folder, {"source": note}
    if is_offline():
        raise HubError(f"{name} is not in {cache_folder()} and HF_HUB_OFFLINE is set; unset it, or put {file} there")
    download(f"{OPENAI_ROOT}/{digest}/{file}", path, digest, progress=_bar(file))
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
