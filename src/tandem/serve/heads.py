"""The heads that a server offers: files that whoever started it named. Clients name one; they cannot send any.

Knows heads and the names they are served under; no routes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tandem.errors import HeadError, did_you_mean
from tandem.fields import NonNegative, read, to_plain
from tandem.heads.head import Head
from tandem.heads.head_file import check_model, model_name, read_head
from tandem.model import Model
from tandem.serve.http.problems import not_found


@dataclass(frozen=True)
class _Measured:
    """A figure as cards have it."""

    value: float
    interval: tuple[float, float]
    n: NonNegative
    chance: float | None
    unit: str = "share"


@dataclass(frozen=True)
class _Told:
    """What of a head's card is told to clients: nothing about the files it was learnt from."""

    accuracy: _Measured | None = None
    zero_shot: _Measured | None = None
    gain: _Measured | None = None
    verdict: str | None = None
    images: NonNegative | None = None
    shots: Mapping[str, NonNegative] | None = None
    date: str | None = None

    @classmethod
    def of(cls, head: Head, source: str) -> Self:
        """Raises `HeadError` for a card of another form, whose figures nobody could show."""
        return read(cls, head.card, path=f"{source}: card", error=HeadError, ignore_unknown=True)


@dataclass(frozen=True)
class ServedHeads:
    """Heads by the names of their files without the ending."""

    heads: Mapping[str, Head] = field(default_factory=dict)

    @classmethod
    def open(cls, paths: Sequence[Path], models: Iterable[Model]) -> Self:
        """Read all. Raises `HeadError` for one that cannot be used with any of the models, and for equal names."""
        known = {model.fingerprint: model for model in models} if paths else {}
        heads: dict[str, Head] = {}
        for path in paths:
            if path.stem in heads:
                raise HeadError(
                    f"{path}: a head with the name {path.stem!r} is served already; rename one of the files"
                )
            head = read_head(path)
            if head.fingerprint not in known:
                names = ", ".join(model.name for model in known.values())
                check_model(head, name=names or "no model", fingerprint=next(iter(known), ""), source=str(path))
            _Told.of(head, str(path))
            heads[path.stem] = head
        return cls(heads)

    def get(self, name: str) -> Head:
        """Raises `ProblemError` 404."""
        found = self.heads.get(name)
        if found is None:
            raise not_found(f"no head {name[:100]!r} here{did_you_mean(name[:100], self.heads)}; see /v1/heads")
        return found

    def described(self) -> list[dict[str, Any]]:
        """The entries of /v1/heads."""
        return [
            {
                "name": name,
                "classes": list(head.classes),
                "method": head.method,
                "model": {"name": model_name(head), "fingerprint": head.fingerprint},
                **{key: value for key, value in to_plain(_Told.of(head, name)).items() if value is not None},
            }
            for name, head in self.heads.items()
        ]
