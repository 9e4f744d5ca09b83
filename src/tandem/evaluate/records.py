"""What a result belongs to besides its data: the model, and the program and machine that measured it."""

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from tandem import __version__
from tandem.model import Model
from tandem.processor import processor

LIBRARIES = ("numpy", "openvino", "torch", "pillow")  # those that can change a figure


@dataclass(frozen=True)
class ModelRecord:
    """Which model was measured, and how it was computed."""

    name: str
    fingerprint: str  # SHA-256 of weights, configuration, preprocessing and tokenizer
    source: str
    engine: str  # "openvino CPU float32"

    @staticmethod
    def of(model: Model) -> "ModelRecord":
        """The record of a model."""
        engine = model.engine
        return ModelRecord(
            model.name, model.fingerprint, model.checkpoint.source, f"{engine.name} {engine.device} {engine.precision}"
        )

    @property
    def rows(self) -> list[tuple[str, str]]:
        """For a table of a report."""
        return [
            ("model", self.name),
            ("fingerprint", self.fingerprint),
            ("source", self.source),
            ("engine", self.engine),
        ]


@dataclass(frozen=True)
class Environment:
    """Versions, and the machine in words."""

    tandem: str
    python: str
    libraries: dict[str, str]
    machine: str  # "Linux x86_64; AMD EPYC, 2 cores"

    @staticmethod
    def here() -> "Environment":
        """This process and its machine."""
        machine = f"{platform.system()} {platform.machine()}; {processor()}"
        return Environment(__version__, platform.python_version(), _versions(), machine)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """For a table of a report."""
        own = [("Tandem", self.tandem), ("Python", self.python)]
        return [*own, *self.libraries.items(), ("machine", self.machine)]


def timestamp() -> str:
    """Now, as reports say it: ISO 8601, UTC, in whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # torch is an extra
            continue
    return found
