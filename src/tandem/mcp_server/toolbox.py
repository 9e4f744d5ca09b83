"""What an assistant can do with collections: plain functions with plain results. Knows no protocol.

Arguments and answers are called as over HTTP. Images are named by their id or path in a collection, or by the path of a
file in a folder that was opened to the assistant; no other file is read. Sizes are bounded. Whatever is wrong is a
`TandemError` of one line.
"""

import io
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from tandem.defaults import HITS, LOCATED_TEXTS, MAX_IMAGE_BYTES, MOMENTS
from tandem.errors import TandemError
from tandem.mcp_server.named_images import GIVE_THE_ID, MAX_CHARACTERS, Found, NamedImage, find, read
from tandem.mcp_server.permission import folders, permitted
from tandem.model import Model
from tandem.pixels import as_rgb
from tandem.search.collection import Collection, open_collection
from tandem.search.stores import backends

MAX_HITS = 50
MAX_OFFSET = 10_000
MAX_LABELS = 200
SHOWN_CHARACTERS = 500  # of a caption in an answer
MAX_SIDE = 1536  # pixels of an image that is looked at
LOOK_SIDE = 768
MAX_FILES = 1000  # that one call adds
_SHOWN = ("time", "taken", "width", "height", "format", "latitude", "longitude")


class Toolbox:
    """The collections that an assistant works with. Any thread may call it; one call runs at a time."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        files: Sequence[str | Path] = (),
        allow_writes: bool = False,
        model: Model | str | None = None,
        loading: Mapping[str, Any] | None = None,
    ) -> None:
        """Open the collections, which must exist; models are loaded when they are needed.

        `files` are folders whose images may be named by path; `allow_writes` offers `add` and `set_caption`.
        """
        if not urls:
            raise TandemError("no collection: name one or more, as in: tandem mcp photos.tandem")
        self.folders = folders(files)
        self.allow_writes = allow_writes
        self._lock = threading.Lock()
        self._collections: dict[str, Collection] = {}
        for url in urls:
            name = backends.backend(url).name
            if name in self._collections:
                raise TandemError(f"two collections are called {name}: an assistant could not tell them apart")
            self._collections[name] = open_collection(url, model, must_exist=True, **(loading or {}))

    def close(self) -> None:
        for collection in self._collections.values():
            collection.close()

    # --- reading -------------------------------------------------------------------------------------------------

    def collections(self) -> dict[str, Any]:
        """Each collection: its name, how many images, its model, what filters can name, its folders."""
        with self._lock:
            infos = {name: collection.info() for name, collection in self._collections.items()}
        return {
            "collections": [
                {
                    "name": name,
                    "count": info.count,
                    "model": info.model,
                    "fingerprint": info.fingerprint,
                    "filter_columns": list(info.columns),
                    "folders": list(info.roots),
                }
                for name, info in infos.items()
            ],
            "files_may_be_named_under": [str(folder) for folder in self.folders],
            "can_write": self.allow_writes,
        }

    def search(
        self,
        text: str | None = None,
        image: str | None = None,
        minus: str | None = None,
        collection: str | None = None,
        where: str | None = None,
        k: int = HITS,
        offset: int = 0,
        moments: int = MOMENTS,
    ) -> dict[str, Any]:
        """The images nearest to a text, to an image, or to both; nearest first."""
        _check_text("text", text)
        _check_text("minus", minus)
        _check_text("where", where)
        _check_range("k", k, 1, MAX_HITS)
        _check_range("offset", offset, 0, MAX_OFFSET)
        with self._lock:
            name, chosen = self._chosen(collection)
            pixels = like = None
            if image is not None:
                found = self._in_collections([chosen], image)
                if found is not None:
                    like = found.id
                else:
                    pixels = self._file(image).pixels()
            results = chosen.search(
                text, image=pixels, like=like, minus=minus, where=where, k=k, offset=offset, moments=moments
            )
            passing = chosen.count(where)
        document = results.as_dict()
        hits = [
            {
                "id": hit["id"],
                "path": hit["path"],
                "score": hit["score"],
                "relevance": hit["relevance"],
                **_described(hit["metadata"]),
                **({"missing": True} if hit.get("missing") else {}),
            }
            for hit in document["hits"]
        ]
        return {
            "collection": name,
            "model": document["model"],
            "total": passing,
            "nothing_matches": document["nothing_matches"],
            "relevance_reason": document["relevance_reason"],
            "hits": hits,
        }

    def look(self, image: str, collection: str | None = None, side: int = LOOK_SIDE) -> tuple[bytes, dict[str, Any]]:
        """An image as a JPEG of at most `side` pixels, and what is known of it."""
        _check_range("side", side, 64, MAX_SIDE)
        with self._lock:
            found = self._image(image, collection)
        pixels = as_rgb(found.pixels())
        known = {"image": found.name, "width": pixels.width, "height": pixels.height, **_described(found.values)}
        known["of_thumbnail"] = found.of_thumbnail
        pixels.thumbnail((side, side), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        pixels.save(file, "JPEG", quality=85)
        return file.getvalue(), known

    def classify(
        self, image: str, labels: Sequence[str], collection: str | None = None, independent: bool = False
    ) -> dict[str, Any]:
        """Which of the labels an image has: probabilities over them, or of each by itself (`independent`)."""
        if not 1 <= len(labels) <= MAX_LABELS:
            raise TandemError(f"labels: expected 1 to {MAX_LABELS}, got {len(labels):,}")
        for label in labels:
            _check_text("labels", label)
        with self._lock:
            found, model = self._image(image, collection), self._model(collection)
            answer = model.classify(found.pixels(), list(labels), independent=independent)
        document = answer.as_dict()
        return {
            "image": found.name,
            "of_thumbnail": found.of_thumbnail,
            "model": document["model"],
            "scoring": document["scoring"],
            "probabilities": document["results"][0]["probabilities"],
        }

    def locate(self, image: str, texts: Sequence[str], collection: str | None = None) -> dict[str, Any]:
        """Where each of the texts is in an image, in pixels of it, or that it is not there."""
        if not 1 <= len(texts) <= LOCATED_TEXTS:
            raise TandemError(f"texts: expected 1 to {LOCATED_TEXTS}, got {len(texts):,}")
        for text in texts:
            _check_text("texts", text)
        with self._lock:
            found, model = self._image(image, collection), self._model(collection)
            document = model.locate(found.pixels(), list(texts)).as_dict()
            named = {"name": model.name, "fingerprint": model.fingerprint}
        return document | {"image": found.name, "of_thumbnail": found.of_thumbnail, "model": named}

    # --- writing -------------------------------------------------------------------------------------------------

    def add(self, paths: Sequence[str], collection: str | None = None) -> dict[str, Any]:
        """Add photos, films or folders of them, under the folders that were opened, to a collection."""
        self._may_write()
        if not 1 <= len(paths) <= MAX_FILES:
            raise TandemError(f"paths: expected 1 to {MAX_FILES:,}, got {len(paths):,}")
        files = [permitted(path, self.folders) for path in paths]
        with self._lock:
            name, chosen = self._chosen(collection)
            report = chosen.add(files, progress=False)
        return {
            "collection": name,
            "count": report.total,
            "added": report.added,
            "unchanged": report.unchanged,
            "changed": report.changed,
            "failures": [{"path": one.path, "error": one.reason} for one in report.failures[:MAX_HITS]],
        }

    def set_caption(self, image: str, caption: str, collection: str | None = None) -> dict[str, Any]:
        """Write the caption of an image into the collection; its file is not touched."""
        self._may_write()
        _check_text("caption", caption or None)
        with self._lock:
            name, chosen = self._chosen(collection)
            found = self._in_collections([chosen], image)
            if found is None:
                raise TandemError(f"{image[:200]}: not an image of {name}; {GIVE_THE_ID}")
            identifier = found.id
            chosen.set_caption(identifier, caption.strip() or None)
        return {"collection": name, "id": identifier, "caption": caption.strip() or None}

    # --- which collection, which image ----------------------------------------------------------------------------

    def _may_write(self) -> None:
        if not self.allow_writes:
            raise TandemError("this server only reads: start it with --allow-writes")

    def _chosen(self, name: str | None) -> tuple[str, Collection]:
        if name is None:
            return next(iter(self._collections.items()))
        if name not in self._collections:
            raise TandemError(f"no collection {name[:100]!r}; there are {', '.join(self._collections)}")
        return name, self._collections[name]

    def _model(self, name: str | None) -> Model:
        return self._chosen(name)[1].model

    def _image(self, named: str, name: str | None) -> NamedImage:
        """An image of a collection (the named one, else any), else a file in a folder that was opened."""
        chosen = [self._chosen(name)[1]] if name is not None else list(self._collections.values())
        found = self._in_collections(chosen, named)
        return self._file(named) if found is None else read(found)

    def _in_collections(self, chosen: Sequence[Collection], named: str) -> Found | None:
        return find(chosen, named, is_file=self._is_file)

    def _is_file(self, named: str) -> bool:
        """Whether it is a file that may be named."""
        with suppress(TandemError, OSError):
            return permitted(named, self.folders).is_file()
        return False

    def _file(self, named: str) -> NamedImage:
        try:
            path = permitted(named, self.folders)
        except TandemError as error:
            raise TandemError(f"{error}; {GIVE_THE_ID}") from None
        try:
            if not path.is_file() or path.stat().st_size > MAX_IMAGE_BYTES:
                raise TandemError(f"{named[:200]}: no such file, or one of more than {MAX_IMAGE_BYTES // 2**20} MiB")
            return NamedImage(str(path), content=path.read_bytes())
        except OSError as error:
            raise TandemError(f"{named[:200]}: {error.strerror}") from None


def _described(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of an image beside its id and path."""
    known = {name: values[name] for name in _SHOWN if values.get(name) is not None}
    caption = values.get("caption")
    return known | ({"caption": str(caption)[:SHOWN_CHARACTERS]} if caption else {})


def _check_text(name: str, text: str | None) -> None:
    if text is not None and (not text.strip() or len(text) > MAX_CHARACTERS):
        raise TandemError(f"{name}: expected a text of 1 to {MAX_CHARACTERS:,} characters, got {len(text):,}")


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise TandemError(f"{name}: expected {least:,} to {most:,}, got {value:,}")
