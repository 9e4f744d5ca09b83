"""Synonyms and prompt sensitivity: the same question in other words."""

from itertools import combinations

import numpy as np

from tandem.audit.answers import answer_examples, name_vectors
from tandem.audit.estimates import chance_agreement, difference, right_answers, share
from tandem.audit.protocol import About, Finding, Findings, Subject, Table

ABOUT = About(
    title="Synonyms and prompts",
    measures="The same images and names with ten prompts, and, for drawn scenes, with a synonym for each name "
    "that has one. How often the answer stays, and what each prompt is worth.",
    chance="One of the names; for two answers that agree, how often unrelated answers with the same frequencies would.",
    not_for="The best of ten prompts on these images is not the best on yours: choosing it here and reporting "
    "it is choosing by luck.",
)
PROMPTS = (
    "{}",
    "a photo of a {}.",
    "a picture of a {}.",
    "an image of the {}.",
    "this is a {}.",
    "a {} on a plain background.",
    "a drawing of a {}.",
    "a cartoon of a {}.",
    "there is a {} in this picture.",
    "a close-up of a {}.",
)
SYNONYMS = {
    "house": "cottage",
    "boat": "sailboat",
    "cup": "mug",
    "moon": "crescent moon",
    "car": "automobile",
    "umbrella": "parasol",
    "mushroom": "toadstool",
    "flower": "blossom",
    "sun": "sunshine",
}


def encoded(subject: Subject) -> int:
    """About how many images it encodes."""
    return len(subject.images.some(subject.count(192)))


def measure(subject: Subject) -> Findings:
    given = subject.images.some(subject.count(192))
    names, chance = given.names, 1 / len(given.names)
    vectors = subject.encoder.images(given.images)
    by_prompt = [vectors @ name_vectors(subject.encoder, names, (prompt,)).T for prompt in PROMPTS]
    answers = [each.argmax(1) for each in by_prompt]
    together = vectors @ name_vectors(subject.encoder, names, PROMPTS).T
    two = list(combinations(range(len(PROMPTS)), 2))
    agree = np.mean([answers[i] == answers[j] for i, j in two], axis=0)
    by_chance = float(np.mean([chance_agreement(answers[i], answers[j], len(names)) for i, j in two]))
    findings, tables, notes = [Finding("two prompts agree", share(agree, by_chance))], [], []
    examples = []
    if given.has_truth:
        outcomes = [right_answers(each, given.labels) for each in by_prompt]
        all_ten = right_answers(together, given.labels)
        findings = [
            Finding("right, a prompt alone (mean of ten)", share(np.mean(outcomes, axis=0), chance)),
            Finding("right, ten prompts averaged", share(all_ten, chance)),
            Finding("gained by averaging", difference(all_ten, np.mean(outcomes, axis=0))),
            *findings,
        ]
        rows = tuple((prompt, share(each, chance)) for prompt, each in zip(PROMPTS, outcomes, strict=True))
        tables.append(Table("Right answers by prompt", ("prompt", "right"), rows))
        examples = answer_examples(given.images, names, given.labels, by_prompt[0], asked="the name alone")
    known = [place for place, name in enumerate(names) if name in SYNONYMS]
    if given.reference == "drawn" and len(known) > 1:
        findings += _synonyms(subject, vectors, given.labels, names, known)
    else:
        notes.append("Synonyms are known for the names of drawn scenes only, and were left out.")
    settings = {"images": len(given), "prompts": list(PROMPTS), "reference": given.reference}
    return Findings(tuple(findings), tuple(examples), tuple(tables), settings, tuple(notes))


def _synonyms(
    subject: Subject, vectors: np.ndarray, labels: np.ndarray, names: tuple[str, ...], known: list[int]
) -> list[Finding]:
    """Answers among all names, with each that has one replaced by its synonym: on the images of those."""
    replaced = tuple(SYNONYMS.get(name, name) for name in names)
    rows = np.isin(labels, known)
    if not rows.any():
        return []
    plain, other = (vectors[rows] @ name_vectors(subject.encoder, each, PROMPTS).T for each in (names, replaced))
    right = [right_answers(scores, labels[rows]) for scores in (plain, other)]
    agree = plain.argmax(1) == other.argmax(1)
    by_chance = chance_agreement(plain.argmax(1), other.argmax(1), len(names))
    return [
        Finding("right, by synonyms", share(right[1], 1 / len(names))),
        Finding("gained or lost by synonyms", difference(right[1], right[0])),
        Finding("a name and its synonym agree", share(agree, by_chance)),
    ]
