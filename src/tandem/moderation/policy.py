"""A policy as plain values: categories, texts and examples for and against each, bands, the expected base rate.

Knows texts and numbers; where a policy is stored is `policy_files`, what a model makes of it is `category_scores`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from tandem.errors import ConfigError, TextError
from tandem.fields import Range, Share
from tandem.prompts import DEFAULT_TEMPLATE, check_labels, check_templates

LONGEST_NAME = 100  # characters
MAX_CATEGORIES = 100
MAX_PROMPTS = 10_000  # texts times templates, of a policy
BaseRate = Annotated[float, Range(above=0, below=1)]


@dataclass(frozen=True)
class Bands:
    """Where the bands of a category begin, as probabilities: below `review` an image is allowed.

    They hold for calibrated probabilities alone: without a fit, no image is in any band.
    """

    review: Share = 0.2
    block: Share = 0.9

    def __post_init__(self) -> None:
        if not self.review <= self.block:
            raise ConfigError(f"review: expected at most the probability of block, {self.block:g}, got {self.review:g}")


@dataclass(frozen=True)
class Category:
    """What is looked for, and what it is to be told apart from.

    Texts are filled into the policy's templates. Examples are image files, or folders of them, relative to the policy.
    `base_rate` is the share of images that are expected to show it, where the policy will be used.
    """

    texts_for: tuple[str, ...]
    texts_against: tuple[str, ...]
    base_rate: BaseRate
    description: str = ""
    examples_for: tuple[str, ...] = ()
    examples_against: tuple[str, ...] = ()
    bands: Bands = field(default_factory=Bands)

    def __post_init__(self) -> None:
        for name in ("texts_for", "texts_against"):
            if not getattr(self, name):
                raise ConfigError(f"{name}: expected at least one text")
        try:
            check_labels([*self.texts_for, *self.texts_against], "texts_for and texts_against")
        except TextError as error:
            raise ConfigError(str(error)) from None
        if bool(self.examples_for) != bool(self.examples_against):
            given, missing = ("for", "against") if self.examples_for else ("against", "for")
            raise ConfigError(
                f"examples_{missing}: expected at least one, as there are examples_{given}: "
                "one side alone does not say where the line is"
            )


@dataclass(frozen=True)
class Policy:
    """What to look for in images, and what to do about it, in writing."""

    name: str
    description: str
    categories: Mapping[str, Category]
    templates: tuple[str, ...] = (DEFAULT_TEMPLATE,)

    def __post_init__(self) -> None:
        if not self.categories:
            raise ConfigError("categories: expected at least one, as in [categories.people]")
        if len(self.categories) > MAX_CATEGORIES:
            raise ConfigError(f"categories: expected at most {MAX_CATEGORIES:,}, got {len(self.categories):,}")
        texts = sum(len(each.texts_for) + len(each.texts_against) for each in self.categories.values())
        if texts * len(self.templates) > MAX_PROMPTS:
            raise ConfigError(
                f"templates: expected at most {MAX_PROMPTS:,} texts of all categories in all templates, "
                f"got {texts:,} in {len(self.templates):,}"
            )
        for name in (self.name, *self.categories):
            if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
                raise ConfigError(
                    f"name: expected 1 to {LONGEST_NAME} printable characters for a policy or a category, "
                    f"got {name[:LONGEST_NAME]!r}"
                )
        try:
            check_templates(self.templates)
        except TextError as error:
            raise ConfigError(f"templates: {error}") from None
