"""The prompts that a task gives to the names of classes: one, and an ensemble, so that both can be shown.

Shapes: c classes, d the shared dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tandem import prompts
from tandem.arrays import Vectors
from tandem.datasets.dataset import Dataset
from tandem.model import Model


@dataclass(frozen=True, eq=False)
class ClassPrompts:
    """Templates that were chosen, and the class vectors [c d] that one prompt and an ensemble give."""

    one_template: str
    ensemble_templates: tuple[str, ...]
    one: Vectors
    ensemble: Vectors
    chosen_is_ensemble: bool

    @property
    def chosen(self) -> Vectors:
        """The vectors of the templates that were asked for."""
        return self.ensemble if self.chosen_is_ensemble else self.one

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates that were asked for."""
        return self.ensemble_templates if self.chosen_is_ensemble else (self.one_template,)


def class_prompts(
    model: Model, dataset: Dataset, templates: str | Sequence[str] | None, language: str | None
) -> ClassPrompts:
    """The templates asked for, else those of the data set, else the default one, as classifying takes them; and what
    they are compared with.

    One prompt is a single template that was asked for, else the default one; the ensemble is several that were asked
    for, else those of the data set, else the built-in ones. Raises `TextError` for names that are not distinct.
    """
    built_in = prompts.templates(language or prompts.ENGLISH)
    own = tuple(dataset.templates or ())
    chosen = prompts.check_templates((own or prompts.default_templates(language)) if templates is None else templates)
    several = len(chosen) > 1
    one = prompts.default_templates(language)[0] if several else chosen[0]
    ensemble = chosen if several else own if len(own) > 1 else built_in
    return ClassPrompts(
        one,
        ensemble,
        model.class_vectors(dataset.classes, one, language=language),
        model.class_vectors(dataset.classes, ensemble, language=language),
        several,
    )
