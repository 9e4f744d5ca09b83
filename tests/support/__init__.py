"""Toys, servers and browsers that the tests of several rooms use."""

import importlib.util
import sys
from types import ModuleType


def skip_without(*packages: str) -> None:
    """Skip the rest of a test module where a package is absent, without importing it as `pytest.importorskip` does.

    Every process of a test run reads every module; LanceDB, Ray and scikit-learn take seconds each.
    """
    import pytest  # here: the processes that tests start import `support` too

    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}", allow_module_level=True)


def lazy(name: str) -> ModuleType:
    """A module that is imported when an attribute of it is first asked for: not by processes that collect tests."""
    if name in sys.modules:  # one for all test files: classes of two copies are not the same to pickle
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    loader = importlib.util.LazyLoader(spec.loader)
    spec.loader = loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module
