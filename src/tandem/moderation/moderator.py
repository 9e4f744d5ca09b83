"""`Moderator`: a policy, a model and what was measured of both; images or a collection in, decisions out.

It only reads: no image is deleted, moved or changed.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tandem.arrays import Vectors
from tandem.defaults import BATCH_SIZE
from tandem.errors import DataError, ImageError
from tandem.image import ImageSource, many, read_bytes, source_name
from tandem.model import Model, load
from tandem.moderation.category_scores import category_vectors
from tandem.moderation.decisions import CategoryDecision, Decision, decide
from tandem.moderation.fit_file import Fit, fit_path, read_fit
from tandem.moderation.policy_files import PolicyFile, open_policy
from tandem.prefetch import batched, in_order
from tandem.search.stores.protocol import Store

_ROWS = 1024  # of a collection, judged together


@dataclass(frozen=True)
class ModeratedImage:
    """An image of a batch: its place among those given, and the decision, or why it could not be read."""

    index: int
    result: Decision | ImageError


class Moderator:
    """Says of images what a policy asks. Thread-safe.

    moderator = Moderator("people.toml")
    for decision in moderator.moderate(["a.jpg", "b.jpg"]):
        print(decision.image, decision.band)
    """

    def __init__(
        self,
        policy: PolicyFile | str | os.PathLike[str],
        model: Model | str | Path | None = None,
        *,
        fit: Fit | str | os.PathLike[str] | bool = True,
    ) -> None:
        """
        Args:
            policy: a file in TOML, or the name of one that ships ("people").
            model: a model, or what `tandem.load` takes.
            fit: what `fit_policy` found, or its file; True for the one beside the policy, if there is one; False for
                none: then images are ordered, and no probability is shown.

        Raises `ConfigError` for what is no policy, and `DataError` for a fit of another policy or model, by name.
        """
        self.opened = policy if isinstance(policy, PolicyFile) else open_policy(policy)
        self.policy = self.opened.policy
        self.model = model if isinstance(model, Model) else load(model)
        self.fit = self._fit(fit)
        self._vectors = category_vectors(self.model, self.opened)

    def _fit(self, given: Fit | str | os.PathLike[str] | bool) -> Fit | None:
        if given is False:
            return None
        if isinstance(given, Fit):
            found, source = given, "the fit"
        else:
            path = fit_path(self.opened) if given is True else Path(given)
            if given is True and not path.exists():
                return None
            found, source = read_fit(path), str(path)
        found.check(
            self.opened,
            model=self.model.name,
            fingerprint=self.model.fingerprint,
            dimensions=self.model.config.embed_dim,
            source=source,
        )
        return found

    @property
    def is_fitted(self) -> bool:
        """Whether every category has a probability, or a measured reason why it has none."""
        return self.fit is not None and set(self.policy.categories) <= set(self.fit.categories)

    def decide(self, vectors: Vectors) -> list[dict[str, CategoryDecision]]:
        """What is said of images by their vectors, float32 [n d] of unit length: every category of each."""
        fits = {} if self.fit is None else self.fit.categories
        columns = {
            name: decide(category, fits.get(name), vectors) if len(vectors) else []
            for name, category in self._vectors.items()
        }
        return [dict(zip(columns, each, strict=True)) for each in zip(*columns.values(), strict=True)]

    # --- images ------------------------------------------------------------------------------------------------------

    def iter_moderate(
        self, images: ImageSource | Iterable[ImageSource], *, digests: bool = False, batch_size: int = BATCH_SIZE
    ) -> Iterator[list[ModeratedImage]]:
        """Yields the images of each batch as soon as they are ready, in order.

        `digests`: with the SHA-256 of each image's bytes; of images in memory, of their pixels.
        """
        seen: dict[int, tuple[str, str | None]] = {}

        def noted(item: tuple[int, ImageSource]) -> ImageSource:
            index, image = item
            seen[index] = source_name(image), None
            if not digests:
                return image
            try:
                digest, again = _digested(image, self.model)
            except ImageError:  # the decoder finds the same, in its place
                return image
            seen[index] = source_name(image), digest
            return again

        if digests:
            stream: Iterable[ImageSource] = in_order(noted, enumerate(many(images)), ahead=2 * batch_size)
        else:
            stream = map(noted, enumerate(many(images)))
        for batch in batched(self.model.iter_embed_images(stream, batch_size=batch_size), batch_size):
            yield self._found(batch, seen)

    def _found(
        self, batch: list[tuple[int, Vectors | ImageError]], seen: dict[int, tuple[str, str | None]]
    ) -> list[ModeratedImage]:
        good = [vector for _, vector in batch if not isinstance(vector, ImageError)]
        decided = iter(self.decide(np.stack(good)) if good else ())
        found = []
        for index, item in batch:
            name, digest = seen.pop(index)
            if isinstance(item, ImageError):
                found.append(ModeratedImage(index, item.renewed(name)))
            else:
                found.append(ModeratedImage(index, Decision(name, next(decided), digest)))
        return found

    def moderate(
        self, images: ImageSource | Iterable[ImageSource], *, digests: bool = False, batch_size: int = BATCH_SIZE
    ) -> list[Decision]:
        """The decision on each image, in order. One that cannot be read raises its `ImageError`."""
        decisions = []
        for batch in self.iter_moderate(images, digests=digests, batch_size=batch_size):
            for each in batch:
                if isinstance(each.result, ImageError):
                    raise each.result
                decisions.append(each.result)
        return decisions

    # --- collections -------------------------------------------------------------------------------------------------

    def iter_store(self, store: Store, *, where: str | None = None) -> Iterator[list[Decision]]:
        """The decisions on the images of a collection, by the vectors that it holds: no image is read.

        Raises `DataError` for a collection of another model.
        """
        other = store.notes.get("model_fingerprint", "")
        if other != self.model.fingerprint:
            raise DataError(
                f"{store.url}: it holds vectors of another model ({other[:12]}), not of {self.model.name} "
                f"({self.model.fingerprint[:12]}): moderate it with its own model, or the images themselves"
            )
        columns = [name for name in ("path",) if name in store.schema.columns]
        for records in store.scan(where=where, columns=columns, batch_size=_ROWS):
            if records.vectors is None or not len(records):
                continue
            paths = records.columns.get("path") or [None] * len(records)
            decided = self.decide(np.asarray(records.vectors, dtype=np.float32))
            yield [
                Decision(str(path or id), each, id=str(id))
                for id, path, each in zip(records.ids, paths, decided, strict=True)
            ]

    def logged(self, decision: Decision) -> dict[str, Any]:
        """A decision with what it was made by, as a log keeps it (`AuditLog.append`).

        `fitted_on`: whether the fit was made from this image, where that is known.
        """
        key = decision.digest or decision.id
        known = None if self.fit is None or key is None else self.fit.was_fitted_on(key)
        return {**self.about(), **decision.as_dict(), **({} if known is None else {"fitted_on": known})}

    @cached_property
    def _about(self) -> dict[str, Any]:
        return {
            "model": {"name": self.model.name, "fingerprint": self.model.fingerprint},
            "policy": {"name": self.policy.name, "fingerprint": self.opened.fingerprint},
            "fit": None if self.fit is None else {"fingerprint": self.fit.fingerprint, "date": self.fit.date},
        }

    def about(self) -> dict[str, Any]:
        """What decides, by name and fingerprint, as plain values."""
        return dict(self._about)


def _digested(image: ImageSource, model: Model) -> tuple[str, ImageSource]:
    """The SHA-256 of an image's bytes, or of its pixels where there is nothing else, and what to decode."""
    if isinstance(image, Image.Image | np.ndarray):
        pixels = np.asarray(image)
        return hashlib.sha256(str((pixels.shape, pixels.dtype.str)).encode() + pixels.tobytes()).hexdigest(), image
    content = read_bytes(image, limits=model.limits)
    return hashlib.sha256(content).hexdigest(), content
