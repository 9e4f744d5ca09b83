"""Locating with few windows, to be fast."""

from dataclasses import replace
from typing import Any

import tandem
from tandem.image import ImageSource
from tandem.localization.locating import Locator
from tandem.localization.location import Locations
from tandem.localization.settings import LocateSettings

SMALL = LocateSettings("windows", (0.5,), 0.5, 0.4, 0.6, best=2)


def small(model: tandem.Model, image: ImageSource, texts: list[str], **changes: Any) -> Locations:
    locator, settings = Locator(model), replace(SMALL, **changes)
    return locator.find(locator.encode(image, settings), texts, locator.contrast(texts, settings), settings)
