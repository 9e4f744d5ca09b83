"""One library in a process of its own, driven over pipes: a line of JSON asks, a line of JSON answers.

    python worker.py with_transformers.py    answers requests until its standard input ends

Runs under the library's own Python, so it imports nothing outside the standard library before it is asked to. A peer is
a module beside this one, with

    PACKAGES: the distributions whose versions count
    prepare(model, scratch, precision, photos, texts): exports and quantises once, into the folder `scratch`
    classify(model, scratch, precision, threads, photo, labels) -> {label: probability}; see one_photo.py
    Peer(model, scratch, precision, threads), with
        image_input(pixels uint8 [n h w 3]) -> what its encoder takes; made before the clock runs
        encode_images(input) -> [n d]
        encode_texts(texts) -> [n d], tokenizing included
        embed_files(paths) -> [n d], decoding included

Vectors need not be of unit length. Seconds are measured here, around the work alone: the pipes cost nothing.
"""

import importlib.metadata
import importlib.util
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import IO, Any


def load(path: str) -> ModuleType:
    """The peer's module; what lies beside it can be imported."""
    sys.path.insert(0, str(Path(path).resolve().parent))
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Worker:
    """Requests by name: each public method takes a request's fields and gives the answer's."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._peer: Any = None
        self._ready: dict[tuple[str, int, int], list[Any]] = {}

    def prepare(self, model: str, scratch: str, precision: str, photos: list[str], texts: list[str]) -> dict[str, Any]:
        Path(scratch).mkdir(parents=True, exist_ok=True)
        self._module.prepare(model, scratch, precision, photos, texts)
        return {"versions": self.versions()}

    def versions(self) -> dict[str, str]:
        """Of the distributions that count."""
        return {name: importlib.metadata.version(name) for name in self._module.PACKAGES}

    def open(self, model: str, scratch: str, precision: str, threads: int) -> dict[str, Any]:
        self._ready = {}
        self._peer = self._module.Peer(model, scratch, precision, threads)
        return {}

    def images(self, pixels: str, count: int, batch: int, out: str | None = None) -> dict[str, Any]:
        """The first `count` of a file of pixels, in batches."""
        import numpy as np

        key = (pixels, count, batch)
        if key not in self._ready:
            array = np.load(pixels)[:count]
            self._ready = {key: [self._peer.image_input(array[i : i + batch]) for i in range(0, count, batch)]}
        ready = self._ready[key]
        return self._timed(lambda: np.concatenate([self._peer.encode_images(each) for each in ready]), out)

    def texts(self, texts: list[str], out: str | None = None) -> dict[str, Any]:
        return self._timed(lambda: self._peer.encode_texts(texts), out)

    def files(self, paths: list[str], out: str) -> dict[str, Any]:
        """From files to vectors in a file: writing it counts."""
        import numpy as np

        return self._timed(lambda: np.save(out, self._peer.embed_files(paths)), None)

    @staticmethod
    def _timed(work: Callable[[], Any], out: str | None) -> dict[str, Any]:
        began = time.perf_counter()
        vectors = work()
        seconds = time.perf_counter() - began
        if out is not None:
            import numpy as np

            np.save(out, np.asarray(vectors, dtype=np.float32))
        return {"seconds": seconds}


def serve(worker: Worker, asked: IO[str], answers: IO[str]) -> None:
    """Answers until `asked` ends. A request that fails is answered with its error, and the next one is waited for."""
    for line in asked:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    module = load(sys.argv[1])
    # What libraries print must not end up among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(Worker(module), sys.stdin, answers)


if __name__ == "__main__":
    main()
