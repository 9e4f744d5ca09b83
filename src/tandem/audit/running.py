"""Runs the tests of the table on a model, one after another."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tandem.arrays import Vectors
from tandem.audit.groups import Groups, read_groups
from tandem.audit.image_sample import LIMIT, Gathered, draw_things, open_images, sample
from tandem.audit.labelled_images import CaptionedImage
from tandem.audit.protocol import Encoder, SkippedTest, Subject
from tandem.audit.report import AuditReport
from tandem.audit.result import TestResult
from tandem.audit.table import TESTS, load_test
from tandem.datasets.dataset import Dataset
from tandem.errors import TandemError, did_you_mean
from tandem.evaluate.records import Environment, ModelRecord, timestamp
from tandem.model import Model, load
from tandem.prefetch import batched
from tandem.progress import Progress

BATCH_SIZE = 64
QUICK = 0.25  # of the scenes
OnTest = Callable[[AuditReport], None]


class ModelEncoder:
    """A loaded model as tests ask it. Vectors of texts are kept: tests share names."""

    def __init__(self, model: Model) -> None:
        self.advance: Callable[[int], None] = lambda count: None  # told of each batch of images
        self._model = model
        self._texts: dict[str, Vectors] = {}

    def images(self, images: Sequence[CaptionedImage]) -> Vectors:
        """float32 [n d]"""
        rows = []
        for batch in batched(images, BATCH_SIZE):
            rows.append(self._model.embed_images([p.pixels for p in batch], batch_size=BATCH_SIZE, progress=False))
            self.advance(len(batch))
        return np.concatenate(rows)

    def texts(self, texts: Sequence[str]) -> Vectors:
        """float32 [m d]; texts past the model's context are cut."""
        missing = list(dict.fromkeys(text for text in texts if text not in self._texts))
        if missing:
            self._texts |= zip(missing, self._model.embed_texts(missing, truncate=True), strict=True)
        return np.stack([self._texts[text] for text in texts])


@dataclass(frozen=True, eq=False)
class Plan:
    """A model, its images and the tests to run, before the first of them."""

    encoder: ModelEncoder
    subject: Subject
    report: AuditReport

    @property
    def images(self) -> int:
        """About how many images will be encoded."""
        return sum(load_test(name).encoded(self.subject) for name in self.report.pending)

    def run(
        self, *, advance: Callable[[int], None] = lambda count: None, on_test: OnTest = lambda report: None
    ) -> AuditReport:
        """Run the tests. `advance` is told of encoded images, `on_test` of the report after each test."""
        self.encoder.advance = advance
        return run_tests(self.subject, self.report, on_test)


def audit(
    model: Model | str | Path | None,
    images: str | Path | Dataset | None = None,
    *,
    labels: bool = True,
    only: Sequence[str] | None = None,
    groups: str | Path | Groups | None = None,
    quick: bool = False,
    seed: int = 0,
    limit: int = LIMIT,
    progress: bool | None = None,
) -> AuditReport:
    """Run the tests, all or `only` some, and report what they found.

    Args:
        model: a model, or what `tandem.load` takes.
        images: the user's own images, in any layout that `tandem.datasets.open_dataset` reads, labelled or not, for
            the tests that can use them; the others draw their scenes.
        labels: whether labels of these images are right, and folders their classes; else the model's own answers to
            the unchanged images are the reference.
        groups: a file of attributes and words, for the test of subgroups (see `read_groups`).
        quick: a quarter of the scenes; intervals are about twice as wide.
        limit: at most so many of the user's images, drawn by `seed`.
        progress: shows a bar; None shows one in a terminal or a notebook.

    Raises: `TandemError` for unknown tests; `DataError` for images or groups that cannot be read.
    """
    plan = prepare(model, images, labels=labels, only=only, groups=groups, quick=quick, seed=seed, limit=limit)
    with Progress(plan.images, show=progress, label="auditing", unit="image") as bar:
        return plan.run(advance=bar.advance)


def prepare(
    model: Model | str | Path | None,
    images: str | Path | Dataset | None = None,
    *,
    labels: bool = True,
    only: Sequence[str] | None = None,
    groups: str | Path | Groups | None = None,
    quick: bool = False,
    seed: int = 0,
    limit: int = LIMIT,
) -> Plan:
    """Read or draw the images of an audit; arguments and errors are those of `audit`."""
    names = check_names(only)
    model = model if isinstance(model, Model) else load(model)
    given = read_groups(groups) if isinstance(groups, str | Path) else groups
    encoder = ModelEncoder(model)
    scale = QUICK if quick else 1.0
    gathered = _gather(images, encoder, labels, seed, scale, limit)
    report = AuditReport(
        model=ModelRecord.of(model),
        environment=Environment.here(),
        made=timestamp(),
        seed=seed,
        scale=scale,
        images=gathered.images.source,
        images_hash=gathered.images.hash,
        reference=gathered.images.reference,
        count=len(gathered.images),
        skipped_images=gathered.skipped,
        notes=gathered.notes,
        pending=names,
    )
    return Plan(encoder, Subject(encoder, gathered.images, given, seed, scale), report)


def run_tests(subject: Subject, report: AuditReport, on_test: OnTest = lambda report: None) -> AuditReport:
    """Run the pending tests of a report, each independent of the others."""
    for name in report.pending:
        began = time.perf_counter()
        test = load_test(name)
        left = report.pending[1:]
        try:
            done = TestResult(name, test.ABOUT, test.measure(subject), time.perf_counter() - began)
            report = replace(report, tests=(*report.tests, done), pending=left)
        except SkippedTest as reason:
            report = replace(report, not_run=(*report.not_run, (name, str(reason))), pending=left)
        on_test(report)
    return report


def check_names(only: Sequence[str] | None) -> tuple[str, ...]:
    """The tests to run, in the table's order. Raises `TandemError` for names that are not in it."""
    if only is None:
        return TESTS
    for name in only:
        if name not in TESTS:
            hint = did_you_mean(name, TESTS) or f"; there are {', '.join(TESTS)}"
            raise TandemError(f"no test is called {name!r}{hint}")
    if not only:
        raise TandemError(f"no test: give at least one of {', '.join(TESTS)}")
    return tuple(name for name in TESTS if name in only)


def _gather(
    images: str | Path | Dataset | None, encoder: Encoder, labels: bool, seed: int, scale: float, limit: int
) -> Gathered:
    if images is None:
        return Gathered(draw_things(seed, scale))
    opened = images if isinstance(images, Dataset) else open_images(images, labels=labels, limit=limit, seed=seed)
    return sample(opened, encoder, labels=labels, limit=limit, seed=seed)
