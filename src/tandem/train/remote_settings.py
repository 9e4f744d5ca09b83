"""How a run reads training sets at URLs: `[remote]` of its recipe."""

from dataclasses import dataclass
from typing import Annotated

from tandem.fields import Range


@dataclass(frozen=True)
class Remote:
    """A cache on this machine of shards elsewhere, and how long reads are repeated."""

    cache_folder: str = ""  # shared by all runs that name it; "": `shards` in TANDEM_CACHE or ~/.cache/tandem
    cache_gb: Annotated[float, Range(least=0)] = 20.0  # at most (10^9 bytes); what does not fit is read image by image
    patience_s: Annotated[float, Range(above=0)] = 120.0  # for which a server may be away before the run stops
