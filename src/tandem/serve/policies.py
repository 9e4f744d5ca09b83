"""The policies that a server offers: named by whoever started it, by a file or as one that ships. Clients name one.

Knows moderators and the names they are served under; no routes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from tandem.errors import ConfigError, did_you_mean
from tandem.model import Model
from tandem.moderation.fit_file import fit_path, read_fit
from tandem.moderation.moderator import Moderator
from tandem.moderation.policy_files import open_policy
from tandem.serve.http.problems import not_found


@dataclass(frozen=True)
class ServedPolicies:
    """Moderators by the names of their policies' files without the ending."""

    moderators: Mapping[str, Moderator] = field(default_factory=dict)

    @classmethod
    def open(cls, sources: Sequence[str], models: Iterable[Model]) -> Self:
        """Read all, each with the fit beside it and the model of that fit, without a fit the first one.

        Raises `ConfigError` for what is no policy and for equal names, and `DataError` for a fit of another policy, or
        of a model that is not served.
        """
        known = {model.fingerprint: model for model in models} if sources else {}
        moderators: dict[str, Moderator] = {}
        for source in sources:
            opened = open_policy(source)
            name = opened.path.stem
            if name in moderators:
                raise ConfigError(
                    f"{source}: a policy with the name {name!r} is served already; rename one of the files"
                )
            path = fit_path(opened)
            wanted = read_fit(path).model_fingerprint if path.exists() else ""
            moderators[name] = Moderator(opened, known.get(wanted, next(iter(known.values()))))
        return cls(moderators)

    def get(self, name: str) -> Moderator:
        """Raises `ProblemError` 404."""
        found = self.moderators.get(name)
        if found is None:
            near = did_you_mean(name[:100], self.moderators)
            raise not_found(f"no policy {name[:100]!r} here{near}; see /v1/policies")
        return found

    def described(self) -> list[dict[str, Any]]:
        """The entries of /v1/policies: nothing about files."""
        return [
            {
                "name": name,
                "description": moderator.policy.description,
                **moderator.about(),
                "categories": {each: _category(moderator, each) for each in moderator.policy.categories},
            }
            for name, moderator in self.moderators.items()
        ]


def _category(moderator: Moderator, name: str) -> dict[str, Any]:
    category = moderator.policy.categories[name]
    plain: dict[str, Any] = {"description": category.description, "base_rate": category.base_rate}
    fit = None if moderator.fit is None else moderator.fit.categories.get(name)
    if fit is None:
        return plain | {"fitted": False}
    return plain | {
        "fitted": True,
        "cannot_tell": fit.cannot_tell or None,
        "review_probability": fit.review_probability,
        "block_probability": fit.block_probability,
        "figures": {key: figure.as_dict() for key, figure in fit.figures.items()},
    }
