"""The methods of locating by name, and the bounds that interfaces state. Imports nothing heavy, for `--help`."""

from typing import Literal

# "windows", and what image towers name as their `dense_method`
Method = Literal["windows", "naclip", "attention-pool"]
METHODS: dict[Method, str] = {
    "windows": "parts of the image, each encoded",
    "naclip": "patches of a transformer",
    "attention-pool": "positions of a ResNet",
}
HEAT_SIZE = 128  # of a map's longer side: more than any of the methods tells apart
MOST_HEAT_SIZE = 1024
