"""Where in an image: heat maps, boxes and points for texts, and whether they are there at all.

An image is cut into windows (`windows`), each of which gives vectors at places (`dense_features`). How well words
fit there, against words for backgrounds (`contrast`) and beside what they get anywhere (`baseline`), is spread to a map
(`maps`), and a map has boxes and a point (`boxes`). `settings` says how, by model; `location` is the answer.

The names here are imported on first use.
"""

from typing import TYPE_CHECKING

from tandem.lazy_names import lazy

if TYPE_CHECKING:
    from tandem.localization.boxes import Box
    from tandem.localization.choosing import Candidate, Choice
    from tandem.localization.location import Location, Locations

__all__ = ["Box", "Candidate", "Choice", "Location", "Locations"]

_HOMES = {
    "Box": "tandem.localization.boxes",
    "Candidate": "tandem.localization.choosing",
    "Choice": "tandem.localization.choosing",
    "Location": "tandem.localization.location",
    "Locations": "tandem.localization.location",
}

__getattr__ = lazy(globals(), _HOMES)
