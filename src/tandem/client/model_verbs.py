"""The methods of a model, over HTTP. Images are read here and sent in their encoded form.

Shapes: n images or texts, d the shared dimension, c labels.
"""

import base64
import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tandem import prompts
from tandem.answer import Answer, Failure
from tandem.arrays import Vectors
from tandem.client.answers import Sent, Served, ServedRows, failures_of, finite, prompts_of, vectors_of
from tandem.client.calls import ITEM_BYTES
from tandem.client.connected import Connected
from tandem.client.request_fields import beside_defaults, labels_or_head
from tandem.client.sending import batched, data_uri
from tandem.defaults import BATCH_SIZE, LongTexts
from tandem.errors import DataError, ImageError, ServerError, TandemError
from tandem.image import ImageSource, many, source_name
from tandem.localization.methods import HEAT_SIZE, Method


class ModelVerbs(Connected):
    """What a server does with images and texts, without a collection."""

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
            answer = self._calls.document("POST", "/v1/embeddings", body, wants="data", items=len(batch))
            with self._calls.checked("/v1/embeddings"):
                rows += vectors_of(answer["data"], len(batch))
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
        answered, failures = self._answered("/v1/classify", images, lambda batch: body, batch_size, _row_bytes(names))
        with self._calls.checked("/v1/classify"):
            parts = [_answer(batch, answer, names) for batch, answer in answered]
        if not parts:
            raise failures[0].error if failures else TandemError("images: expected an image or several, got none")
        answer = Answer.join(parts)
        return dataclasses.replace(answer, labels=tuple(names or answer.labels), failures=tuple(failures))

    def moderate(
        self, images: ImageSource | Iterable[ImageSource], policy: str, *, batch_size: int = BATCH_SIZE
    ) -> ServedRows:
        """What a policy says of images, in order, as the server answers: `image`, `band` and `categories` of each.

        `policy` is named as `policies` lists it. Unreadable images are in `.failures`; raises `ImageError` where none
        can be read.
        """
        return self._rows("/v1/moderate", images, lambda batch: {"policy": policy}, batch_size)

    def score(
        self,
        images: ImageSource | Iterable[ImageSource],
        prompts: str | Iterable[str],
        *,
        prefix: str = "",
        long: LongTexts = "truncate",
        batch_size: int = BATCH_SIZE,
    ) -> ServedRows:
        """How well each image fits its prompt, as the server answers: `clip_score`, `cosine` and `cut_tokens` of each.

        2.5 max(cos, 0) (Hessel et al. 2021); one prompt alone is that of all images, and the rest is as for
        `tandem.clip_score.clip_score`. `row` is an image's place among those given. Raises `DataError` where images and
        prompts differ in number; unreadable images as for `moderate`.
        """
        texts = prompts if isinstance(prompts, str) else list(prompts)
        options = {"prefix": prefix, "long": long}

        def fields(batch: Sequence[Sent]) -> dict[str, Any]:
            return {"prompts": prompts_of(batch, texts), **options}

        rows = self._rows("/v1/score", images, fields, batch_size)
        count = len(rows) + len(rows.failures)
        if not isinstance(texts, str) and count != len(texts):
            raise DataError(f"prompts: expected one for each of the {count:,} images, got {len(texts):,}")
        return rows

    def _rows(
        self,
        path: str,
        images: ImageSource | Iterable[ImageSource],
        fields: Callable[[Sequence[Sent]], Mapping[str, Any]],
        batch_size: int,
    ) -> ServedRows:
        """The results of a route for each image, in order, under the images' own names and places."""
        answered, failures = self._answered(path, images, fields, batch_size)
        if failures and not answered:
            raise failures[0].error
        rows: list[dict[str, Any]] = []
        for batch, answer in answered:
            with self._calls.checked(path):
                for sent, row in zip(batch, answer["results"], strict=True):
                    place = {"row": sent.index} if "row" in row else {}
                    rows.append({**row, **place, "image": source_name(sent.source)})
        return ServedRows(tuple(rows), tuple(failures))

    def _answered(
        self,
        path: str,
        images: ImageSource | Iterable[ImageSource],
        fields: Callable[[Sequence[Sent]], Mapping[str, Any]],
        batch_size: int,
        row_bytes: int = ITEM_BYTES,
    ) -> tuple[list[tuple[list[Sent], dict[str, Any]]], list[Failure]]:
        """The server's answers, each with the images of it that could be read; and in order those that could not be,
        here or there. A batch of which nothing could be read has no answer.
        """
        answered: list[tuple[list[Sent], dict[str, Any]]] = []
        failures: list[Failure] = []

        def readable() -> Iterator[Sent]:
            for index, source in enumerate(many(images)):
                try:
                    yield Sent(index, source, data_uri(source))
                except ImageError as error:
                    failures.append(Failure(index, error))

        for batch in batched(readable(), batch_size):
            body = {"images": [sent.uri for sent in batch], **fields(batch)}
            try:
                answer = self._calls.document(
                    "POST", path, body, wants="results", items=len(batch), item_bytes=row_bytes
                )
            except ServerError as error:
                if len(batch) > 1 or not error.members.get("failures"):
                    raise
                with self._calls.checked(path):  # of a single image it is the answer
                    failures += failures_of(batch, error.members["failures"])
                continue
            with self._calls.checked(path):
                unread = failures_of(batch, answer["failures"])
            failures += unread
            failed = {failure.index for failure in unread}
            if good := [sent for sent in batch if sent.index not in failed]:
                answered.append((good, answer))
        return answered, sorted(failures, key=lambda failure: failure.index)

    def locate(
        self,
        image: ImageSource | None = None,
        texts: str | Sequence[str] = (),
        *,
        id: str | None = None,
        templates: str | Sequence[str] | None = None,
        method: Method | None = None,
        heat_size: int = HEAT_SIZE,
    ) -> dict[str, Any]:
        """Where texts are in an image, or in one of the collection by its id: the document of `/v1/locate`.

        `templates`, `method`, `heat_size` and the `locations` are as `Model.locate` says; `heat` is float32 [h w].
        """
        if (image is None) == (id is None):
            raise TandemError(f"locate: expected an image or an id, got {'neither' if id is None else 'both'}")
        body: dict[str, Any] = {"texts": prompts.several(texts), "heat": True}
        body |= {} if heat_size == HEAT_SIZE else {"heat_size": heat_size}
        body |= {} if method is None else {"method": method}
        body |= {} if templates is None else {"templates": prompts.several(templates)}
        body |= {"id": id} if image is None else {"image": data_uri(image)}
        item_bytes = ITEM_BYTES + 2 * heat_size**2  # a byte for each value, in base64
        answer = self._calls.document(
            "POST",
            "/v1/locate",
            body | self._collection(),
            wants="locations",
            items=len(body["texts"]),
            item_bytes=item_bytes,
        )
        with self._calls.checked("/v1/locate"):
            if len(answer["locations"]) != len(body["texts"]):
                raise ValueError(f"expected {len(body['texts']):,} locations, got {len(answer['locations']):,}")
            for each in answer["locations"]:
                heat = each["heat"]
                values = np.frombuffer(base64.b64decode(heat["values"]), np.uint8).astype(np.float32) / 255
                each["heat"] = values.reshape(heat["height"], heat["width"])
        return answer


def _row_bytes(names: Sequence[str]) -> int:
    """What an answer may take for one image: each label with its logit and its probability. Of a head nobody knows."""
    return ITEM_BYTES + 3 * len(json.dumps(names)) + 128 * len(names) if names else 32 * ITEM_BYTES


def _answer(good: Sequence[Sent], answer: Mapping[str, Any], names: Sequence[str]) -> Answer:
    """What the server answered of a batch, and the images of it that could be read. `names` are those of labels that
    were asked for. Raises `ValueError` where it is not of so many images and labels.
    """
    logits = [[finite(row["logits"][label]) for label in answer["labels"]] for row in answer["results"]]
    if len(logits) != len(good) or (names and len(answer["labels"]) != len(names)):
        raise ValueError(f"expected {len(good):,} results, got {len(logits):,} of {len(answer['labels']):,} labels")
    return Answer(
        Served(answer["model"]["name"], answer["model"]["fingerprint"]),
        tuple(answer["labels"]),
        tuple(source_name(sent.source) for sent in good),
        np.asarray(logits, dtype=np.float32).reshape(len(good), len(answer["labels"])),
        images=tuple(None if hasattr(sent.source, "read") else sent.source for sent in good),
        scoring=answer.get("scoring", "softmax"),
    )
