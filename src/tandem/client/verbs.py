"""`tandem.Client(url)`: the verbs of a model and of a collection, answered by a `tandem serve` somewhere else.

Arguments and answers are those of the local objects. Pictures are read here and sent as they are encoded, so that the
vectors are the same. Knows the interface's documents; it has no model, no store and no code of the server.

Legend: n pictures or sentences, d the shared dimension, c labels.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem.answer import Answer, Failure
from tandem.client.calls import Calls
from tandem.client.sending import data_uri
from tandem.errors import ImageError, ServerError, TandemError
from tandem.image import ImageSource, source_name
from tandem.search.labelling import Best
from tandem.search.results import Found, Results

BATCH = 32  # pictures, or sentences, of one request

_Item = TypeVar("_Item")
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Served:
    """The model that answered, by name and fingerprint."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class ServedResults(Results):
    """Results as a server gave them: it has said whether anything matches."""

    matches_nothing: bool = False

    @property
    def nothing_matches(self) -> bool:
        return self.matches_nothing


class Client:
    """A server's model and collection. Connections are kept; one client serves many threads.

    Requests that may be repeated are, after lost connections and answers 502, 503 and 504, with growing waits or those
    that the server asks for. What the server refuses is a `ServerError` with its title and detail.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, timeout_s: float = 30.0, retries: int = 3, **testing: Any
    ) -> None:
        """url: where the server is, such as http://localhost:8000. api_key: None for TANDEM_API_KEY, if it is set.

        timeout_s: how long one try may keep silent. retries: tries after the first. testing: see `Calls`.
        """
        key = os.environ.get("TANDEM_API_KEY") if api_key is None else api_key
        self._calls = Calls(url, api_key=key, timeout_s=timeout_s, retries=retries, **testing)

    def __repr__(self) -> str:
        return f"<tandem.Client {self._calls.url}>"

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._calls.close()

    # --- the model -----------------------------------------------------------------------------------------------

    def embed_texts(self, texts: str | Iterable[str], *, batch_size: int = BATCH) -> Vectors:
        """Sentences -> float32 [n d] of unit length, in order; one sentence gives [1 d]."""
        sentences = [texts] if isinstance(texts, str) else list(texts)
        return self._embed(sentences, batch_size)

    def embed_images(self, sources: ImageSource | Iterable[ImageSource], *, batch_size: int = BATCH) -> Vectors:
        """Pictures -> float32 [n d] of unit length, in order; one picture gives [1 d]. Raises `ImageError` for one
        that cannot be read here, `ServerError` for one that the server cannot read.
        """
        return self._embed((data_uri(source) for source in _many(sources)), batch_size)

    def _embed(self, inputs: Iterable[str], batch_size: int) -> Vectors:
        rows: list[Vectors] = []
        for batch in _batched(inputs, batch_size):
            answer = self._calls.document("POST", "/v1/embeddings", {"input": batch}, wants="data")
            data = sorted(answer["data"], key=lambda row: int(row["index"]))
            rows += [np.asarray(row["embedding"], dtype=np.float32) for row in data]
        if not rows:
            return np.empty((0, self._dimensions()), dtype=np.float32)
        return np.stack(rows)

    def _dimensions(self) -> int:
        return len(self._calls.document("POST", "/v1/embeddings", {"input": "a"}, wants="data")["data"][0]["embedding"])

    def classify(
        self,
        images: ImageSource | Iterable[ImageSource],
        labels: Sequence[str],
        *,
        templates: str | Sequence[str] | None = None,
        batch_size: int = BATCH,
    ) -> Answer:
        """How well each label fits each picture, as `Model.classify` answers. Bad pictures are in `.failures`."""
        parts: list[Answer] = []
        asked: dict[str, Any] = {"labels": list(labels)}
        if templates is not None:
            asked["templates"] = [templates] if isinstance(templates, str) else list(templates)
        offset = 0
        for batch in _batched(_many(images), batch_size):
            parts.append(self._classified(batch, offset, asked))
            offset += len(batch)
        if not parts:
            raise TandemError("images: expected a picture or several, got none")
        return Answer.join(parts)

    def _classified(self, batch: Sequence[ImageSource], offset: int, asked: Mapping[str, Any]) -> Answer:
        sent: list[int] = []
        uris: list[str] = []
        failures: list[Failure] = []
        for place, source in enumerate(batch):
            try:
                uris.append(data_uri(source))
                sent.append(place)
            except ImageError as error:
                failures.append(Failure(offset + place, error))
        if not sent:
            return Answer(
                Served("", ""),
                tuple(asked["labels"]),
                (),
                np.empty((0, len(asked["labels"])), np.float32),
                (*failures,),
            )
        answer = self._calls.document("POST", "/v1/classify", {"images": uris, **asked}, wants="results")
        bad = {sent[_place(failed["image"])]: str(failed["error"]) for failed in answer["failures"]}
        good = [place for place in sent if place not in bad]
        logits = [[row["logits"][label] for label in answer["labels"]] for row in answer["results"]]
        failures += [
            Failure(offset + place, ImageError(source_name(batch[place]), reason)) for place, reason in bad.items()
        ]
        return Answer(
            Served(**answer["model"]),
            tuple(answer["labels"]),
            tuple(source_name(batch[place]) for place in good),
            np.asarray(logits, dtype=np.float32).reshape(len(good), len(answer["labels"])),
            tuple(sorted(failures, key=lambda failure: failure.index)),
            tuple(None if hasattr(batch[place], "read") else batch[place] for place in good),
        )

    # --- the collection ------------------------------------------------------------------------------------------

    def search(
        self,
        words: str | None = None,
        *,
        image: ImageSource | None = None,
        k: int = 10,
        offset: int = 0,
        where: str | None = None,
        **more: Any,
    ) -> Results:
        """The pictures nearest to words, to a picture, or to both, as `Collection.search` answers.

        `more` is what else the interface takes, such as like, minus, minus_image, weight, threshold.
        """
        asked = {"text": words, "image": image, "k": k, "offset": offset, "where": where, **more}
        for name in ("image", "minus_image"):
            if asked.get(name) is not None:
                asked[name] = data_uri(asked[name])
        found = self._calls.document("POST", "/v1/search", _given(asked), wants="hits")
        hits = tuple(
            Found(hit["id"], hit["score"], hit["relevance"], {"path": hit["path"], **hit["metadata"]})
            for hit in found["hits"]
        )
        return ServedResults(
            found["query"],
            found["model"]["name"],
            found["model"]["fingerprint"],
            hits,
            hits[0].relevance if hits and not found["offset"] else None,
            found["threshold"],
            found["offset"],
            matches_nothing=found["nothing_matches"],
        )

    def label(
        self,
        labels: Sequence[str],
        *,
        k: int = 10,
        templates: str | Sequence[str] | None = None,
        where: str | None = None,
    ) -> dict[str, list[Best]]:
        """For each label the k pictures, of all, that are likeliest to have it, as `Collection.label` answers."""
        chosen = [templates] if isinstance(templates, str) else templates
        asked = {"labels": list(labels), "k": k, "templates": chosen, "where": where}
        answer = self._calls.document("POST", "/v1/label", _given(asked), wants="labels")
        return {
            each["label"]: [Best(one["id"], one["score"], one["probability"]) for one in each["pictures"]]
            for each in answer["labels"]
        }

    def add(self, images: ImageSource | Iterable[ImageSource]) -> dict[str, Any]:
        """Put pictures in. Gives the server's account of it: which were added, and which were set aside and why."""
        return self._calls.document(
            "POST", "/v1/pictures", {"images": [data_uri(image) for image in _many(images)]}, wants="added"
        )

    def delete(self, ids: str | Sequence[str]) -> int:
        """Take pictures out by id. Gives how many there were. Not repeated once the server may have begun."""
        asked = {"ids": [ids] if isinstance(ids, str) else list(ids)}
        return int(self._calls.document("DELETE", "/v1/pictures", asked, wants="deleted", safe=False)["deleted"])

    def thumbnail(self, identifier: str) -> bytes | None:
        """The small JPEG kept of a picture; None where there is none."""
        try:
            return self._calls.answer("GET", f"/v1/pictures/{quote(identifier, safe='')}/thumbnail").content
        except ServerError as error:
            if error.status == 404:
                return None
            raise

    # --- the server ----------------------------------------------------------------------------------------------

    def models(self) -> list[dict[str, Any]]:
        """The models served, as the server describes them."""
        return list(self._calls.document("GET", "/v1/models", wants="data")["data"])

    def collections(self) -> list[dict[str, Any]]:
        """The collections served, as the server describes them."""
        return list(self._calls.document("GET", "/v1/collections", wants="data")["data"])

    def ready(self) -> bool:
        """Whether the server is there and answers from its model and collection in time. Asks once."""
        try:
            return self._calls.once("GET", "/readyz").status_code == 200
        except TandemError:
            return False


def _given(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}


def _place(name: str) -> int:
    """`images[3]` -> 3."""
    return int(name.rpartition("[")[2].rstrip("]"))


def _many(sources: ImageSource | Iterable[ImageSource]) -> Iterable[ImageSource]:
    single = isinstance(sources, str | bytes | bytearray | memoryview | os.PathLike | Image.Image)
    if single or hasattr(sources, "read") or (isinstance(sources, np.ndarray) and sources.ndim <= 3):
        return [sources]  # type: ignore[list-item]
    if not isinstance(sources, Iterable):
        raise TandemError(f"images: expected a picture or several, got {type(sources).__name__}")
    return sources  # type: ignore[return-value]


def _batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    if size < 1:
        raise TandemError(f"batch_size: expected at least 1, got {size}")
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
