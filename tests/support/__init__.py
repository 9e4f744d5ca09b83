"""Toys, servers and browsers that the tests of several rooms use."""

import importlib.util


def skip_without(*packages: str) -> None:
    """Skip the rest of a test module where a package is absent, without importing it as `pytest.importorskip` does.

    Every process of a test run reads every module; LanceDB, Ray and scikit-learn take seconds each.
    """
    import pytest  # here: the processes that tests start import `support` too

    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}", allow_module_level=True)
