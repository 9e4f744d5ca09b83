"""The browser that draws SVGs, where one is installed."""

from support.browsing import browser

__all__ = ["browser"]
