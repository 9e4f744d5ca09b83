"""The public names are exactly these; each resolves, and none is left out of `dir`."""

import pytest

import tandem

NAMES = {
    "Answer",
    "Client",
    "Collection",
    "ConfigError",
    "DataError",
    "EngineError",
    "FilterError",
    "HubError",
    "ImageError",
    "MissingExtraError",
    "Model",
    "ModelConfig",
    "SearchQuery",
    "ServerError",
    "StoreBusyError",
    "StoreError",
    "StoreExistsError",
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


def test_errors_are_one_tree() -> None:
    errors = [getattr(tandem, name) for name in NAMES if name.endswith("Error")]
    assert all(issubclass(error, tandem.TandemError) for error in errors)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="Model"):
        tandem.modle  # noqa: B018
