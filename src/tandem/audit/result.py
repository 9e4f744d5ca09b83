"""What an audit found, as plain values. Knows no files and no pages."""

from dataclasses import asdict, dataclass
from typing import Any

from tandem.audit.labelled_images import Reference
from tandem.audit.protocol import About, Finding, Findings, Table
from tandem.errors import ImageError
from tandem.evaluate.figures import Figure
from tandem.evaluate.records import Environment, ModelRecord
from tandem.evaluate.run_report import plain
from tandem.files import display_name

FORMAT, VERSION = "tandem-audit", 1


@dataclass(frozen=True, eq=False)
class TestResult:
    """A test that ran."""

    __test__ = False  # no test of pytest's

    name: str
    about: About
    measured: Findings
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; images are in the HTML alone."""
        measured = self.measured
        return {
            "name": self.name,
            **asdict(self.about),
            "figures": [finding.as_dict() for finding in measured.findings],
            "tables": [_table(table) for table in measured.tables],
            "examples": [{"asked": e.asked, "right": e.right, "answer": e.answer} for e in measured.examples],
            "settings": plain(measured.settings),
            "failed_controls": list(measured.failed_controls),
            "notes": list(measured.notes),
            "seconds": round(self.seconds, 2),
        }


def _table(table: Table) -> dict[str, Any]:
    rows = [[cell.as_dict() if isinstance(cell, Figure) else cell for cell in row] for row in table.rows]
    return {"title": table.title, "headings": list(table.headings), "rows": rows}


@dataclass(frozen=True, eq=False)
class AuditResult:
    """All that an audit found, and what it was measured with."""

    model: ModelRecord
    environment: Environment
    made: str  # ISO 8601, UTC
    seed: int
    scale: float  # of the number of scenes: 1, or 0.25 for a quick audit
    images: str  # where they come from
    images_hash: str
    reference: Reference
    count: int  # images
    skipped_images: tuple[ImageError, ...] = ()
    notes: tuple[str, ...] = ()
    tests: tuple[TestResult, ...] = ()
    not_run: tuple[tuple[str, str], ...] = ()  # tests that lacked something, and what
    pending: tuple[str, ...] = ()  # tests that have not run yet: the audit was interrupted

    @property
    def findings(self) -> list[tuple[TestResult, Finding]]:
        """Every figure, with its test."""
        return [(test, finding) for test in self.tests for finding in test.measured.findings]

    def figure(self, test: str, name: str) -> Figure:
        """The figure of a test by its name. Raises `KeyError`."""
        for one, finding in self.findings:
            if (one.name, finding.name) == (test, name):
                return finding.figure
        raise KeyError(f"{test}: {name}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "made": self.made,
            "complete": not self.pending,
            "model": asdict(self.model),
            "environment": asdict(self.environment),
            "seed": self.seed,
            "scale": self.scale,
            "images": {
                "source": display_name(self.images),
                "hash": self.images_hash,
                "reference": self.reference,
                "n": self.count,
            },
            "notes": list(self.notes),
            "tests": [test.as_dict() for test in self.tests],
            "not_run": [{"name": name, "why": why} for name, why in self.not_run],
            "pending": list(self.pending),
            "failures": [
                {"image": display_name(error.source), "error": display_name(error.reason), "kind": error.kind}
                for error in self.skipped_images
            ],
        }
