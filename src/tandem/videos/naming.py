"""What films and their moments are called: suffixes, the path of a moment, times for people. Opens no file.

The path of a moment is that of the film and a media fragment, as in `film.mp4#t=83.200` (W3C, Media Fragments URI):
what a browser plays from there. Knows no PyAV.
"""

import hashlib
import importlib.util
import os
import re

FILM_SUFFIXES = frozenset(
    [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv"]
)  # a folder is searched for these; .ts is mostly TypeScript
EVERY_S = 5.0  # seconds between the kept frames of a scene, if nothing else is asked for
_MOMENT = re.compile(r"(?P<film>.*)#t=(?P<time>\d+\.\d{3})", re.DOTALL)


def is_film(path: str) -> bool:
    """Whether a file is called as films are."""
    return os.path.splitext(path)[1].lower() in FILM_SUFFIXES


def moment_path(film: str, time_s: float) -> str:
    """The path of the picture at this time of a film."""
    return f"{film}#t={time_s:.3f}"


def moment_of(path: str) -> tuple[str, float] | None:
    """The film and the time in seconds of a moment's path; None for the path of anything else."""
    found = _MOMENT.fullmatch(path)
    return (found["film"], float(found["time"])) if found and is_film(found["film"]) else None


def moment_id(film_digest: str, time_s: float) -> str:
    """The id of a moment, 32 hexadecimal digits. Copies of a film have the same."""
    return hashlib.sha256(f"{film_digest} {time_s:.3f}".encode()).hexdigest()[:32]


def clock(time_s: float) -> str:
    """A time for people: 0:01:23."""
    seconds = int(time_s)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def shown(path: str) -> str:
    """A path for people: `film.mp4 @ 0:01:23` for a moment, the others as they are."""
    found = moment_of(path)
    return path if found is None else f"{found[0]} @ {clock(found[1])}"


def file_of(path: str) -> str:
    """The file to open: the film of a moment, the others as they are."""
    found = moment_of(path)
    return path if found is None else found[0]


def is_installed() -> bool:
    """Whether films can be read here."""
    return importlib.util.find_spec("av") is not None
