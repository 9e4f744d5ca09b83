"""Policies as TOML files, with the bytes of their examples and a fingerprint over both; and those that ship by name."""

import hashlib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tandem.errors import ConfigError, ImageError, did_you_mean, named
from tandem.fields import parse_toml, read, to_plain
from tandem.files import display_name, user_path
from tandem.image import IMAGE_SUFFIXES, read_bytes
from tandem.moderation.policy import Policy

SHIPPED = Path(__file__).parents[1] / "assets" / "policies"
SUFFIX = ".toml"
MAX_BYTES = 64 << 10  # of a policy
MAX_DOTS = 1000  # in a line: a key of tens of thousands of parts takes minutes to read
MAX_EXAMPLES = 1000  # of a policy: they are held in memory while it is opened
MAX_SEARCHED = 20_000  # files and folders in a folder of examples


@dataclass(frozen=True)
class Example:
    """An example image: its file, and what it holds."""

    name: str  # its path beside the policy, or that of a file elsewhere without its folders
    content: bytes


@dataclass(frozen=True)
class PolicyFile:
    """A policy as it was read. `examples` are by category and side, "for" or "against"."""

    policy: Policy
    path: Path
    fingerprint: str
    examples: Mapping[tuple[str, str], tuple[Example, ...]]


def shipped_policies() -> list[str]:
    """The names of the policies that ship with Tandem."""
    return sorted(path.stem for path in SHIPPED.glob(f"*{SUFFIX}"))


def open_policy(source: str | os.PathLike[str]) -> PolicyFile:
    """The policy of a file, or of one that ships by name ("people").

    Raises `ConfigError` that names the file and the key for anything that is no policy, and for an example that cannot
    be read.
    """
    path = _path(source)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: expected a policy of at most {MAX_BYTES:,} bytes")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: the policy cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected a policy in TOML, which is UTF-8 text") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.count(".") > MAX_DOTS:
            raise ConfigError(f"{path}, line {number}: expected at most {MAX_DOTS:,} dots in a line of a policy")
    try:
        policy = read(Policy, parse_toml(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    examples = _examples(policy, path)
    return PolicyFile(policy, path, fingerprint_of(policy, examples), examples)


def fingerprint_of(policy: Policy, examples: Mapping[tuple[str, str], tuple[Example, ...]]) -> str:
    """SHA-256 over all values of the policy and the bytes of its examples, whatever the files are called."""
    plain = to_plain(policy)
    for name, category in plain["categories"].items():
        for side in ("for", "against"):
            category[f"examples_{side}"] = sorted(
                hashlib.sha256(example.content).hexdigest() for example in examples.get((name, side), ())
            )
    return hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _path(source: str | os.PathLike[str]) -> Path:
    text = os.fspath(source)
    path = user_path(text, strict=False)
    is_name = os.sep not in text and "/" not in text and not text.endswith(SUFFIX)
    if path.is_file() or not is_name:
        if not path.is_file():
            raise ConfigError(f"{display_name(text)}: no such policy file; by name there are {_names()}")
        return path
    if text not in shipped_policies():
        near = did_you_mean(text[:100], shipped_policies())
        raise ConfigError(
            f"{display_name(text)}: no such policy{near}; expected a {SUFFIX} file, or by name {_names()}"
        )
    return SHIPPED / f"{text}{SUFFIX}"


def _names() -> str:
    return named(shipped_policies(), 20)


def _examples(policy: Policy, path: Path) -> dict[tuple[str, str], tuple[Example, ...]]:
    found: dict[tuple[str, str], tuple[Example, ...]] = {}
    count = 0
    for name, category in policy.categories.items():
        seen: dict[str, str] = {}  # the side that each content is an example of
        for side, given in (("for", category.examples_for), ("against", category.examples_against)):
            each = []
            for file in _files(given, path, f"categories.{name}.examples_{side}"):
                count += 1
                if count > MAX_EXAMPLES:
                    raise ConfigError(f"{path}: expected at most {MAX_EXAMPLES:,} examples")
                try:
                    content = read_bytes(file)
                except ImageError as error:
                    raise bad_example(path, name, side, _name(file, path), error) from None
                digest = hashlib.sha256(content).hexdigest()
                if seen.setdefault(digest, side) != side:
                    raise ConfigError(f"{path}: {file} is an example for and against {name!r}")
                each.append(Example(_name(file, path), content))
            found[name, side] = tuple(each)
    return found


def bad_example(path: Path, category: str, side: str, file: str, error: ImageError) -> ConfigError:
    """Which example of which policy is no image, and of which kind the problem is; nothing of what the file holds."""
    why = error.kind.replace("_", " ")
    return ConfigError(
        f"{path}: categories.{category}.examples_{side}: {file}: expected an image that can be read ({why})"
    )


def _name(file: str, path: Path) -> str:
    inside = Path(os.path.abspath(file)), Path(os.path.abspath(path.parent))
    is_inside = inside[0].is_relative_to(inside[1])
    return display_name(inside[0].relative_to(inside[1]).as_posix() if is_inside else os.path.basename(file))


def _files(given: tuple[str, ...], path: Path, key: str) -> Iterator[str]:
    """The files that are meant, folders searched through, in a fixed order."""
    for each in given:
        place = path.parent / user_path(each)
        _check_place(place, user_path(each), path, f"{key}: {each}")
        if place.is_dir():
            inside = sorted(_images(place, f"{path}: {key}: {each}"))
            if not inside:
                raise ConfigError(f"{path}: {key}: {each}: no images in this folder")
            yield from map(str, inside)
        elif place.is_file():
            yield str(place)
        else:
            raise ConfigError(f"{path}: {key}: {each}: no such image (paths are relative to the policy)")


def _check_place(place: Path, given: Path, path: Path, key: str) -> None:
    """Raise `ConfigError` for a disk, and for a relative path that leaves the policy's folder."""
    whole, home = Path(os.path.abspath(place)), Path(os.path.abspath(path.parent))
    if whole == Path(whole.anchor):
        raise ConfigError(f"{path}: {key}: expected images or a folder of them, got a whole disk")
    if not given.is_absolute() and not whole.is_relative_to(home):
        raise ConfigError(f"{path}: {key}: expected a path below the policy's folder, or a whole one on purpose")


def _images(folder: Path, named_by: str) -> Iterator[Path]:
    searched = 0
    for parent, folders, files in os.walk(folder):
        searched += len(folders) + len(files)
        if searched > MAX_SEARCHED:
            raise ConfigError(f"{named_by}: expected a folder of at most {MAX_SEARCHED:,} files and folders")
        for name in files:
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                yield Path(parent, name)
