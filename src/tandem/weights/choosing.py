"""Which published model for what: the orders of `tandem models --for`. Facts of the table only."""

from collections.abc import Callable, Sequence

from tandem.weights.published import KnownModel

PURPOSES = ("cpu", "languages", "quality")


def ordered_for(purpose: str, models: Sequence[KnownModel]) -> list[KnownModel]:
    """The models in the order of a purpose, the best first.

    cpu: models that no other one beats in both ImageNet accuracy and work per image, the least work first; then the
    others. languages: by text-to-image recall on Crossmodal-3600 (36 languages); then what reads many languages without
    a figure, then English. quality: by ImageNet accuracy. A figure that is not published comes after all that are.
    """
    return sorted(models, key=_KEYS[purpose](models))


def unbeaten(models: Sequence[KnownModel]) -> list[KnownModel]:
    """The models that no other one beats in both ImageNet accuracy and work per image."""
    return [model for model in models if model.imagenet is not None and not _beaten(model, models)]


_Key = Callable[[KnownModel], tuple[float, ...]]


def _for_cpu(models: Sequence[KnownModel]) -> _Key:
    best = {model.name for model in unbeaten(models)}
    return lambda model: (model.name not in best, model.imagenet is None, model.gflops)


def _beaten(model: KnownModel, models: Sequence[KnownModel]) -> bool:
    mine = _negative(model.imagenet), model.gflops
    return any(
        (theirs := (_negative(other.imagenet), other.gflops)) != mine and theirs[0] <= mine[0] and theirs[1] <= mine[1]
        for other in models
    )


def _for_languages(models: Sequence[KnownModel]) -> _Key:
    return lambda model: (
        model.languages == "English",
        model.xm3600 is None,
        _negative(model.xm3600),
        _negative(model.imagenet),
        model.gflops,
    )


def _for_quality(models: Sequence[KnownModel]) -> _Key:
    return lambda model: (model.imagenet is None, _negative(model.imagenet), model.gflops)


def _negative(figure: float | None) -> float:
    return 0.0 if figure is None else -figure


_KEYS: dict[str, Callable[[Sequence[KnownModel]], _Key]] = {
    "cpu": _for_cpu,
    "languages": _for_languages,
    "quality": _for_quality,
}
