"""The model and the picture that several files here look at."""

import pytest
from PIL import Image
from support.locating_toys import SMALL

import tandem


@pytest.fixture(scope="module")
def model() -> tandem.Model:
    """With few windows, to be fast."""
    model = tandem.load()
    model._locator.__dict__["settings"] = SMALL
    return model


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    """A red circle at the right of a white ground."""
    image = Image.new("RGB", (300, 150), "white")
    image.paste("red", (210, 40, 270, 100))
    return image
