"""The public names are exactly these; each resolves, and none is left out of `dir`."""

import pytest

import tandem
from tandem import errors

NAMES = {
    "Answer",
    "Client",
    "ClientError",
    "Collection",
    "ConditioningError",
    "ConfigError",
    "DamageWarning",
    "DataError",
    "EngineError",
    "FilterError",
    "HeadError",
    "HubError",
    "ImageError",
    "MissingExtraError",
    "Model",
    "ModelConfig",
    "RemoteFileError",
    "SearchQuery",
    "ServerError",
    "SidecarError",
    "StoreBusyError",
    "StoreError",
    "StoreExistsError",
    "StoreFullError",
    "StoreNotFoundError",
    "TandemError",
    "TextError",
    "Tokenizer",
    "WeightsError",
    "__version__",
    "load",
    "open",
}


def test_public_names_are_exact() -> None:
    assert set(tandem.__all__) == NAMES
    assert set(dir(tandem)) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_resolves(name: str) -> None:
    assert getattr(tandem, name) is not None


def test_every_error_of_the_module_is_public() -> None:
    kinds = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)}
    assert kinds <= NAMES


def test_errors_are_one_tree() -> None:
    kinds = [getattr(tandem, name) for name in NAMES if name.endswith("Error")]
    assert all(issubclass(each, tandem.TandemError) for each in kinds)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="Model"):
        tandem.modle  # noqa: B018
