"""`tandem.Client(url)`: the methods of a model and a collection, over HTTP to a `tandem serve`.

Arguments and results are those of the local objects. Images are read here and sent in their encoded form, so that the
vectors are the same. Knows the JSON of the interface; it has no model, no store and no code of the server.

Shapes: n images or texts, d the shared dimension, c labels.
"""

import base64
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from tandem import prompts
from tandem.answer import Answer, Failure
from tandem.arrays import Vectors
from tandem.client.answers import Sent, Served, ServedResults, failures_of, prompts_of
from tandem.client.calls import Calls
from tandem.client.request_fields import beside_defaults, labels_or_head, without_none
from tandem.client.sending import batched, data_uri
from tandem.defaults import BATCH_SIZE, HITS, MOMENTS, LongTexts
from tandem.errors import DataError, ImageError, ServerError, TandemError
from tandem.image import ImageSource, many, source_name
from tandem.search.labelling import LabelledImage
from tandem.search.query import SearchQuery
from tandem.search.results import Results, SearchHit


class Client:
    """A server's model and collection. Keeps connections; thread-safe.

    Idempotent requests are retried after lost connections and responses 502, 503 and 504, with exponential backoff or
    the delay that the server asks for. Error responses raise `ServerError` with their title and detail.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        collection: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 3,
        **testing: Any,
    ) -> None:
        """
        Args:
            url: the server's address, such as http://localhost:8000.
            api_key: None for TANDEM_API_KEY, if it is set.
            collection: the name of one of the server's collections; None for the first.
            timeout_s: seconds to wait for the response of one attempt.
            retries: attempts after the first.
            testing: see `Calls`.
        """
        self.collection = collection
        key = os.environ.get("TANDEM_API_KEY") if api_key is None else api_key
        self._calls = Calls(url, api_key=key, timeout_s=timeout_s, retries=retries, **testing)

    def __repr__(self) -> str:
        return f"<tandem.Client {self._calls.url}>"

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._calls.close()

    # --- the model -----------------------------------------------------------------------------------------------

    def embed_texts(
        self, texts: str | Iterable[str], *, long: LongTexts = "error", batch_size: int = BATCH_SIZE
    ) -> Vectors:
        """Embed texts: float32 [n d] of unit length, in order; one text gives [1 d]. `long` as for a model."""
        items = [texts] if isinstance(texts, str) else list(texts)
        # a text may begin like a data URI
        inputs = ({"text": text} if text[:5].lower() == "data:" else text for text in items)
        return self._embed(inputs, batch_size, beside_defaults(long=long))

    def embed_images(self, sources: ImageSource | Iterable[ImageSource], *, batch_size: int = BATCH_SIZE) -> Vectors:
        """Embed images: float32 [n d] of unit length, in order; one image gives [1 d]. Raises `ImageError` for one
        that cannot be read here, `ServerError` for one that the server cannot read.
        """
        return self._embed((data_uri(source) for source in many(sources)), batch_size)

    def _embed(
        self, inputs: Iterable[str | dict[str, str]], batch_size: int, options: Mapping[str, Any] | None = None
    ) -> Vectors:
        rows: list[Vectors] = []
        for batch in batched(inputs, batch_size):
            body = {"input": batch, "encoding_format": "base64", **(options or {})}
            answer = self._calls.document("POST", "/v1/embeddings", body, wants="data")
            data = sorted(answer["data"], key=lambda row: int(row["index"]))
            rows += [np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4") for row in data]
        if not rows:
            return self._embed(["a"], 1)[:0]  # only the server knows d
        return np.stack(rows).astype(np.float32, copy=False)

    def classify(
        self,
        images: ImageSource | Iterable[ImageSource],
        labels: prompts.Labels | None = None,
        *,
        head: str | None = None,
        templates: str | Sequence[str] | None = None,
        language: str | None = None,
        long: LongTexts = "error",
        independent: bool = False,
        batch_size: int = BATCH_SIZE,
    ) -> Answer:
        """Classify images, as `Model.classify`; a `head` is named as `heads` lists it. Unreadable images are in
        `.failures`.
        """
        chosen = [templates] if isinstance(templates, str) else templates
        names, body = labels_or_head(labels, head, chosen, language, long, independent)
        failures: list[Failure] = []

        def readable() -> Iterator[Sent]:
            for index, source in enumerate(many(images)):
                try:
                    yield Sent(index, source, data_uri(source))
                except ImageError as error:
                    failures.append(Failure(index, error))

        parts = []
        for batch in batched(readable(), batch_size):
            try:
                parts.append(self._classified(batch, body))
            except ServerError as error:
                if len(batch) > 1 or not error.members.get("failures"):
                    raise
                failures += failures_of(batch, error.members["failures"])  # of a single image it is the answer
        if not parts:
            raise failures[0].error if failures else TandemError("images: expected an image or several, got none")
        answer = Answer.join(parts)
        failures += answer.failures
        answer = dataclasses.replace(answer, labels=tuple(names or answer.labels))
        return dataclasses.replace(answer, failures=tuple(sorted(failures, key=lambda failure: failure.index)))

    def _classified(self, batch: "Sequence[Sent]", body: Mapping[str, Any]) -> Answer:
        uris = [sent.uri for sent in batch]
        answer = self._calls.document("POST", "/v1/classify", {"images": uris, **body}, wants="results")
        failures = failures_of(batch, answer["failures"])
        failed = {failure.index for failure in failures}
        good = [sent for sent in batch if sent.index not in failed]
        logits = [[row["logits"][label] for label in answer["labels"]] for row in answer["results"]]
        return Answer(
            Served(answer["model"]["name"], answer["model"]["fingerprint"]),
            tuple(answer["labels"]),
            tuple(source_name(sent.source) for sent in good),
            np.asarray(logits, dtype=np.float32).reshape(len(good), len(answer["labels"])),
            tuple(failures),
            tuple(None if hasattr(sent.source, "read") else sent.source for sent in good),
            answer.get("scoring", "softmax"),
        )

    def moderate(
        self, images: ImageSource | Iterable[ImageSource], policy: str, *, batch_size: int = BATCH_SIZE
    ) -> list[dict[str, Any]]:
        """What a policy says of images, in order, as the server answers: `image`, `band` and `categories` of each.

        `policy` is named as `policies` lists it. Raises `ImageError` for an image that cannot be read here, or by the
        server.
        """
        return self._rows("/v1/moderate", images, lambda batch: {"policy": policy}, batch_size)

    def score(
        self,
        images: ImageSource | Iterable[ImageSource],
        prompts: Iterable[str],
        *,
        prefix: str = "",
        long: LongTexts = "truncate",
        batch_size: int = BATCH_SIZE,
    ) -> list[dict[str, Any]]:
        """How well each image fits its prompt, as the server answers: `clip_score`, `cosine` and `cut_tokens` of each.

        2.5 max(cos, 0) (Hessel et al. 2021); the rest as for `tandem.clip_score.clip_score`. Raises as `moderate`.
        """
        texts, options = list(prompts), {"prefix": prefix, "long": long}

        def fields(batch: Sequence[Sent]) -> dict[str, Any]:
            return {"prompts": prompts_of(batch, texts), **options}

        rows = self._rows("/v1/score", images, fields, batch_size)
        if len(rows) != len(texts):
            raise DataError(f"prompts: expected one for each of the {len(rows):,} images, got {len(texts):,}")
        return rows

    def _rows(
        self,
        path: str,
        images: ImageSource | Iterable[ImageSource],
        fields: Callable[[Sequence[Sent]], Mapping[str, Any]],
        batch_size: int,
    ) -> list[dict[str, Any]]:
        """The results of a route for each image, in order, under the images' own names."""
        sent = (Sent(index, source, data_uri(source)) for index, source in enumerate(many(images)))
        rows: list[dict[str, Any]] = []
        for batch in batched(sent, batch_size):
            try:
                answer = self._calls.document(
                    "POST", path, {"images": [each.uri for each in batch], **fields(batch)}, wants="results"
                )
                failures = answer["failures"]
            except ServerError as error:
                failures = error.members.get("failures")  # of a single image it is the answer
                if not failures:
                    raise
            if failures:
                raise failures_of(batch, failures)[0].error
            rows += [
                {**row, "image": source_name(each.source)} for each, row in zip(batch, answer["results"], strict=True)
            ]
        return rows

    def locate(
        self, image: ImageSource | None = None, texts: str | Sequence[str] = (), *, id: str | None = None
    ) -> dict[str, Any]:
        """Where texts are in an image, or in one of the collection by its id: the document of `/v1/locate`.

        Its `locations` are as `Model.locate` says; `heat` is float32 [h w].
        """
        body: dict[str, Any] = {"texts": prompts.several(texts), "heat": True}
        body |= {"id": id} if image is None else {"image": data_uri(image)}
        if self.collection is not None:
            body["collection"] = self.collection
        answer = self._calls.document("POST", "/v1/locate", body, wants="locations")
        for each in answer["locations"]:
            heat = each["heat"]
            values = np.frombuffer(base64.b64decode(heat["values"]), np.uint8).astype(np.float32) / 255
            each["heat"] = values.reshape(heat["height"], heat["width"])
        return answer

    # --- the collection ------------------------------------------------------------------------------------------

    def search(
        self,
        text: str | SearchQuery | None = None,
        *,
        image: ImageSource | None = None,
        like: str | None = None,
        minus: str | None = None,
        minus_image: ImageSource | None = None,
        weight: float = SearchQuery.weight,
        k: int = SearchQuery.k,
        offset: int = 0,
        moments: int = MOMENTS,
        where: str | None = None,
        threshold: float | None = None,
        long: LongTexts = "error",
    ) -> Results:
        """Find the images nearest to a text, an image, or both, as `Collection.search`; `text` may be the whole search
        as a `SearchQuery`.
        """
        query = SearchQuery.of(
            text,
            image=image,
            like=like,
            minus=minus,
            minus_image=minus_image,
            weight=weight,
            k=k,
            offset=offset,
            moments=moments,
            where=where,
            threshold=threshold,
            long=long,
        )
        images = {name: data_uri(each) for name, each in query.images.items()}
        found = self._calls.document("POST", "/v1/search", query.to_dict() | images | self._collection(), wants="hits")
        hits = tuple(
            SearchHit(
                hit["id"],
                hit["score"],
                hit["relevance"],
                {"path": hit["path"], **hit["metadata"]},
                bool(hit.get("missing")),
            )
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
            found.get("relevance_reason"),
            matches_nothing=found["nothing_matches"],
        )

    def label(
        self,
        labels: prompts.Labels | None = None,
        *,
        head: str | None = None,
        k: int = HITS,
        templates: str | Sequence[str] | None = None,
        language: str | None = None,
        long: LongTexts = "error",
        independent: bool = False,
        where: str | None = None,
    ) -> dict[str, list[LabelledImage]]:
        """For each label, or class of a `head`, the k images most likely to have it, as `Collection.label`."""
        chosen = [templates] if isinstance(templates, str) else templates
        names, body = labels_or_head(labels, head, chosen, language, long, independent)
        body |= {"k": k, "where": where, **self._collection()}
        answer = self._calls.document("POST", "/v1/label", without_none(body), wants="labels")
        names = names or [each["label"] for each in answer["labels"]]
        return {
            name: [LabelledImage(one["id"], one["score"], one["probability"], one["path"]) for one in each["images"]]
            for name, each in zip(names, answer["labels"], strict=True)
        }

    def correct(self, image: ImageSource, label: str) -> dict[str, int]:
        """Keep an image with its right label, for `tandem learn`; gives how many images that label has now.

        The label is the server's, where it has one that differs in case or underscores alone. If the image had another
        one before, that one is there as well, unless no image is left. Raises `ServerError` where the server keeps no
        corrections.
        """
        body = {"image": data_uri(image), "label": label}
        return dict(self._calls.document("POST", "/v1/corrections", body, wants="labels")["labels"])

    def add(self, images: ImageSource | Iterable[ImageSource]) -> list[dict[str, Any]]:
        """Add images. Returns the server's report of each batch: what was added, and what failed and why."""
        reports = []
        for batch in batched((data_uri(image) for image in many(images)), BATCH_SIZE):
            body = {"images": batch, **self._collection()}
            try:
                reports.append(self._calls.document("POST", "/v1/images", body, wants="added"))
            except ServerError as error:
                if "failures" not in error.members:
                    raise
                reports.append({"added": [], "failures": error.members["failures"]})  # it added none of this batch
        return reports

    def delete(self, ids: str | Sequence[str]) -> int:
        """Delete images by id. Returns how many existed. Not retried once the server may have begun."""
        body = {"ids": [ids] if isinstance(ids, str) else list(ids), **self._collection()}
        return int(self._calls.document("DELETE", "/v1/images", body, wants="deleted", safe=False)["deleted"])

    def thumbnail(self, identifier: str) -> bytes | None:
        """The thumbnail of an image, a JPEG; None if there is none."""
        path = f"/v1/images/{quote(identifier, safe='')}/thumbnail"
        if self.collection is not None:
            path += f"?collection={quote(self.collection, safe='')}"
        try:
            return self._calls.answer("GET", path).content
        except ServerError as error:
            if error.status == 404:
                return None
            raise

    def _collection(self) -> dict[str, str]:
        return {} if self.collection is None else {"collection": self.collection}

    # --- the server ----------------------------------------------------------------------------------------------

    def models(self) -> list[dict[str, Any]]:
        """The models served, as the server describes them."""
        return list(self._calls.document("GET", "/v1/models", wants="data")["data"])

    def heads(self) -> list[dict[str, Any]]:
        """The heads that `classify` and `label` take by name, as the server describes them."""
        return list(self._calls.document("GET", "/v1/heads", wants="data")["data"])

    def policies(self) -> list[dict[str, Any]]:
        """The policies that `moderate` takes by name, as the server describes them."""
        return list(self._calls.document("GET", "/v1/policies", wants="data")["data"])

    def collections(self) -> list[dict[str, Any]]:
        """The collections served, as the server describes them."""
        return list(self._calls.document("GET", "/v1/collections", wants="data")["data"])

    def ready(self) -> bool:
        """Whether the server's models and collections answer in time. Does not retry."""
        try:
            return self._calls.once("GET", "/readyz").status_code == 200
        except TandemError:
            return False
