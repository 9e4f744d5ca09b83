"""Public names that are imported on first use: found once, and unknown ones are refused with those that there are."""

import importlib

import pytest


@pytest.mark.parametrize("package", ["tandem", "tandem.evaluate", "tandem.heads", "tandem.audit"])
def test_every_public_name_is_found_and_kept(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is vars(module)[name]
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'; its names are "):
        _ = module.nothing
