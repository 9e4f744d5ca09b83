"""Scenes of 64 pixels: what the tests of an audit must be clear at, and fast to draw."""

import pytest

from tandem.audit import drawing


@pytest.fixture(autouse=True)
def small_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "SIDE", 64)
