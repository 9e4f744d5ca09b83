"""How many are there: one to five equal shapes."""

import numpy as np

from tandem.audit import scenes
from tandem.audit.answers import answer_examples
from tandem.audit.drawing import SHAPES
from tandem.audit.estimates import mean, right_answers, share
from tandem.audit.protocol import About, Finding, Findings, Subject, Table

ABOUT = About(
    title="Counting",
    measures='Scenes of one to five equal shapes; the model chooses among five captions, such as "one star" to '
    '"five stars". The painted area has the same distribution for every number, so that more colour does not mean '
    "more shapes.",
    chance="One of five captions: 20%. The mean distance of a guess from the true number is 1.6. The control asks "
    "which of the six shapes it is: 1/6.",
    not_for="It says nothing of counting in photos, where things overlap, and must not be used to let a model "
    "count anything that matters, whatever the figure.",
)
_TEMPLATE = "a picture of {}"


def encoded(subject: Subject) -> int:
    """About how many images it encodes."""
    return subject.count(150)


def measure(subject: Subject) -> Findings:
    random = subject.random("counting")
    kinds, numbers = list(SHAPES), len(scenes.NUMBERS)
    count = subject.count(150) // numbers * numbers or numbers
    kind_of = random.integers(len(kinds), size=count)
    labels = np.arange(count) % numbers
    images = [scenes.counted(random, int(n) + 1, kinds[k]) for n, k in zip(labels, kind_of, strict=True)]
    phrases = [scenes.number_of(number, kind) for kind in kinds for number in range(1, numbers + 1)]
    texts = subject.encoder.texts([_TEMPLATE.replace("{}", phrase) for phrase in phrases]).reshape(
        len(kinds), numbers, -1
    )
    vectors = subject.encoder.images(images)
    scores = np.einsum("nd,ncd->nc", vectors, texts[kind_of])
    answers = scores.argmax(1)
    # Which shape, at the right number: whoever does not know the shapes cannot be asked to count them.
    shapes = np.einsum("nd,nkd->nk", vectors, texts[:, labels].transpose(1, 0, 2))
    findings = (
        Finding("right shape", share(right_answers(shapes, kind_of), 1 / len(kinds)), control=True),
        Finding("right number", share(right_answers(scores, labels), 1 / numbers)),
        Finding("distance from the right number", mean(np.abs(answers - labels), 1.6), better="lower"),
    )
    matrix = np.zeros((numbers, numbers))
    np.add.at(matrix, (labels, answers), 1)
    rows = tuple(
        (scenes.NUMBERS[true], *(f"{value:.0f}" for value in matrix[true])) for true in range(numbers)
    )  # fmt: skip
    return Findings(
        findings,
        tuple(answer_examples(images, scenes.NUMBERS, labels, scores)),
        (Table("Answers (columns) for each number of shapes (rows)", ("shown", *scenes.NUMBERS), rows),),
        {"scenes": count, "template": _TEMPLATE},
    )
