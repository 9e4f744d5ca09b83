"""`fit_policy`: a policy, a model and labelled images to a `Fit`. How a category is fitted is `category_fitting`.

Shapes: n images.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import tandem
from tandem.errors import DataError, did_you_mean, named
from tandem.evaluate.features import Features
from tandem.evaluate.learning import near_duplicates
from tandem.model import Model
from tandem.moderation import promises
from tandem.moderation.category_fitting import FOLDS, Shown, fit_category, scores
from tandem.moderation.category_scores import category_vectors
from tandem.moderation.fit_file import DIGEST_DIGITS, Fit, FittedOn
from tandem.moderation.labelled import check_classes, classes_of, distinct, without
from tandem.moderation.policy import Category
from tandem.moderation.policy_files import PolicyFile

COMPARED = 20_000  # images among which near-duplicates are looked for
LEAST = 20  # labelled images on either side, for a probability of two coefficients


def fit_policy(
    model: Model,
    opened: PolicyFile,
    labelled: Features,
    *,
    block_precision: float | None = None,
    review_recall: float | None = None,
    shows: Mapping[str, Sequence[str]] | None = None,
    corrections: Features | None = None,
    seed: int = 0,
) -> Fit:
    """Fit every category of a policy that the labelled images have a class for.

    Args:
        labelled: images drawn as those that will be moderated are, with their classes. An image shows a category if it
            has a class of its name, or one of `shows[category]`.
        block_precision: what is blocked shall be right this often at the stated base rate; None for the
            policy's own band.
        review_recall: this share of the images that show the category shall be looked at or blocked; None for the
            policy's own band.
        corrections: further labelled images that a head may learn from. They were picked because something was wrong
            with them, so nothing is measured on them.

    Raises `DataError` for too few images, saying how many are needed, for classes that no category has, and for images
    with contradicting labels.
    """
    for name, value in (("block_precision", block_precision), ("review_recall", review_recall)):
        if value is not None and not 0 < value < 1:
            raise DataError(f"{name}: expected a share between 0 and 1, got {value:g}")
    check_classes(opened.policy.categories, shows or {})
    if not labelled.dataset.classes:
        raise DataError(f"{labelled.dataset.name}: expected images with labels, got none")
    labelled, notes = distinct(labelled)
    shown = classes_of(opened.policy.categories, labelled.dataset, shows or {})
    if not shown:
        names = list(opened.policy.categories)
        near = did_you_mean(names[0], labelled.dataset.classes)
        raise DataError(
            f"{labelled.dataset.name}: no class is called as a category of the policy ({named(names)}){near}; its "
            f"classes are {named(labelled.dataset.classes)}: say which ones show it, "
            f"as in --shows {names[0]}=CLASS,CLASS"
        )
    for name, there in shown.items():
        _check_enough(name, there, opened.policy.categories[name], block_precision, review_recall)
    others = None if corrections is None else without(corrections, labelled)
    more = {} if others is None else classes_of(shown, others.dataset, shows or {}, some=True)
    categories = {}
    for name, each in category_vectors(model, opened).items():
        if name not in shown:
            notes = (*notes, f"{name}: no class of the labelled images shows it: not fitted")
            continue
        further = None if others is None or name not in more else (others.vectors, more[name])
        category = opened.policy.categories[name]
        alike = near_duplicates(each.shots(labelled.vectors, shown[name])) if len(labelled) <= COMPARED else 0
        if alike:
            notes = (*notes, f"{name}: {alike:,} images are near-duplicates of others: on new ones expect less")
        found = scores(each, labelled.vectors, shown[name], further, seed=seed)
        categories[name] = fit_category(
            found, shown[name], category, block_precision=block_precision, review_recall=review_recall, seed=seed
        )
    return Fit(
        policy=opened.policy.name,
        policy_fingerprint=opened.fingerprint,
        model=model.name,
        model_fingerprint=model.fingerprint,
        data=FittedOn(
            labelled.dataset.name,
            labelled.dataset.hash,
            len(labelled),
            0 if others is None else len(others),
            _digests(labelled, corrections),
        ),
        date=datetime.now(UTC).date().isoformat(),
        tandem=tandem.__version__,
        seed=seed,
        categories=categories,
        notes=notes,
    )


def _digests(*some: Features | None) -> tuple[str, ...]:
    return tuple(
        sorted({digest.hex()[:DIGEST_DIGITS] for data in some if data is not None for digest in data.dataset.digests})
    )


def _check_enough(
    name: str, shown: Shown, category: Category, block_precision: float | None, review_recall: float | None
) -> None:
    """Raise `DataError` where there are too few images for what is wanted, in every fold's nine others too."""
    with_it, without = int(shown.sum()), int((~shown).sum())

    def least(needed: int) -> int:
        return math.ceil(needed * FOLDS / (FOLDS - 1)) + 1

    wants = {"with": LEAST, "without": LEAST}
    why = "a probability"
    if review_recall is not None and least(promises.needed_for_recall(review_recall)) > wants["with"]:
        wants["with"], why = least(promises.needed_for_recall(review_recall)), f"a recall of {review_recall:.4g}"
    if block_precision is not None and with_it >= wants["with"]:
        in_folds = with_it - math.ceil(with_it / FOLDS)
        needed = promises.needed_for_precision(block_precision, category.base_rate, in_folds)
        if needed is None:
            raise DataError(
                f"{name}: a precision of {block_precision:.4g} at a base rate of {category.base_rate:.4g} needs "
                f"more than {with_it:,} images with it, however many there are without: label more, or ask for less"
            )
        if least(needed) > wants["without"]:
            wants["without"] = least(needed)
            why = f"a precision of {block_precision:.4g} at a base rate of {category.base_rate:.4g}"
    if with_it < wants["with"] or without < wants["without"]:
        raise DataError(
            f"{name}: {why} needs at least {wants['with']:,} labelled images with it and {wants['without']:,} without, "
            f"got {with_it:,} and {without:,}: label more, or ask for less"
        )
