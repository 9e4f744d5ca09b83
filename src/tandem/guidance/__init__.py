"""Pictures by guidance: a picture is changed along a model's gradient until the model finds in it what a text says.

The names here are imported on first use; torch when a run begins.
"""

from typing import TYPE_CHECKING

from tandem.lazy_names import lazy

if TYPE_CHECKING:
    from tandem.guidance.goals import Goal
    from tandem.guidance.guiding import GuidanceStep, Guided, Interrupted, guide, resume
    from tandem.guidance.settings import Settings
    from tandem.guidance.state_file import State, read_state

__all__ = ["Goal", "GuidanceStep", "Guided", "Interrupted", "Settings", "State", "guide", "read_state", "resume"]

_HOMES = {
    "Goal": "tandem.guidance.goals",
    "GuidanceStep": "tandem.guidance.guiding",
    "Guided": "tandem.guidance.guiding",
    "Interrupted": "tandem.guidance.guiding",
    "Settings": "tandem.guidance.settings",
    "State": "tandem.guidance.state_file",
    "guide": "tandem.guidance.guiding",
    "read_state": "tandem.guidance.state_file",
    "resume": "tandem.guidance.guiding",
}

__getattr__ = lazy(globals(), _HOMES)
