"""The methods of a collection, over HTTP: search, label, add, delete, corrections."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from tandem import prompts
from tandem.client.answers import ServedResults, finite, optional
from tandem.client.answers import text as text_of
from tandem.client.connected import Connected
from tandem.client.request_fields import labels_or_head, without_none
from tandem.client.sending import batched, data_uri
from tandem.defaults import BATCH_SIZE, HITS, MOMENTS, LongTexts
from tandem.errors import ServerError
from tandem.image import ImageSource, many
from tandem.search.labelling import LabelledImage
from tandem.search.query import SearchQuery
from tandem.search.results import Results, SearchHit


class CollectionVerbs(Connected):
    """What a server does with a collection."""

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
        body = query.to_dict() | images | self._collection()
        found = self._calls.document("POST", "/v1/search", body, wants="hits", items=query.k)
        with self._calls.checked("/v1/search"):
            return _results(found, query.k)

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
        items = k * (len(names) or 1000)  # of a head nobody knows
        answer = self._calls.document("POST", "/v1/label", without_none(body), wants="labels", items=items)
        with self._calls.checked("/v1/label"):
            names = names or [text_of(each["label"]) for each in answer["labels"]]
            return {
                name: [
                    LabelledImage(text_of(one["id"]), finite(one["score"]), finite(one["probability"]), one["path"])
                    for one in each["images"]
                ]
                for name, each in zip(names, answer["labels"], strict=True)
            }

    def correct(self, image: ImageSource, label: str) -> dict[str, int]:
        """Keep an image with its right label, for `tandem learn`; gives how many images that label has now.

        The label is the server's, where it has one that differs in case or underscores alone. If the image had another
        one before, that one is there as well, unless no image is left. Raises `ServerError` where the server keeps no
        corrections.
        """
        body = {"image": data_uri(image), "label": label}
        answer = self._calls.document("POST", "/v1/corrections", body, wants="labels")
        with self._calls.checked("/v1/corrections"):
            return {text_of(name): int(count) for name, count in answer["labels"].items()}

    def add(self, images: ImageSource | Iterable[ImageSource]) -> list[dict[str, Any]]:
        """Add images. Returns the server's report of each batch: what was added, and what failed and why.

        Where the server refuses a batch (a quota, a full disk), the `ServerError` has the reports of those before it in
        `members["reports"]`: they were added.
        """
        reports: list[dict[str, Any]] = []
        for batch in batched((data_uri(image) for image in many(images)), BATCH_SIZE):
            body = {"images": batch, **self._collection()}
            try:
                report = self._calls.document("POST", "/v1/images", body, wants="added", items=len(batch))
            except ServerError as error:
                if "failures" not in error.members:
                    error.members["reports"] = reports
                    raise
                report = {"added": [], "failures": error.members["failures"]}  # it added none of this batch
            with self._calls.checked("/v1/images"):
                reports.append({**report, "added": list(report["added"]), "failures": list(report["failures"])})
        return reports

    def delete(self, ids: str | Sequence[str]) -> int:
        """Delete images by id. Returns how many existed. Not retried once the server may have begun."""
        body = {"ids": [ids] if isinstance(ids, str) else list(ids), **self._collection()}
        answer = self._calls.document("DELETE", "/v1/images", body, wants="deleted", safe=False)
        with self._calls.checked("/v1/images"):
            return int(finite(answer["deleted"]))

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


def _results(found: Mapping[str, Any], most: int) -> ServedResults:
    """The hits of an answer to a search, checked. Raises `ValueError` for what no search gives."""
    hits = tuple(
        SearchHit(
            text_of(hit["id"]),
            finite(hit["score"]),
            optional(hit["relevance"]),
            {"path": hit["path"], **hit["metadata"]},
            bool(hit.get("missing")),
        )
        for hit in found["hits"]
    )
    if len(hits) > most:
        raise ValueError(f"expected at most {most:,} hits, got {len(hits):,}")
    return ServedResults(
        found["query"],
        text_of(found["model"]["name"]),
        text_of(found["model"]["fingerprint"]),
        hits,
        hits[0].relevance if hits and not found["offset"] else None,
        optional(found["threshold"]),
        int(finite(found["offset"])),
        found.get("relevance_reason"),
        matches_nothing=bool(found["nothing_matches"]),
    )
