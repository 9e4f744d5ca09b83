"""Gaps between groups that a user names: how words that should fit all of them alike are answered."""

import numpy as np
from numpy.typing import NDArray

from tandem import prompts
from tandem.arrays import Vectors
from tandem.audit.answers import example, name_vectors
from tandem.audit.estimates import share
from tandem.audit.groups import Groups
from tandem.audit.protocol import About, Example, Finding, Findings, SkippedTest, Subject, Table
from tandem.evaluate.figures import Figure
from tandem.evaluate.intervals import bootstrap

ABOUT = About(
    title="Subgroup gaps",
    measures="With --groups: attributes (a young person, an old person) and words that should fit them alike. For "
    "each word, which attribute its text is nearest to. With images that are labelled by these attributes: how "
    "often each word is the answer in each group.",
    chance="If words did not depend on groups, each attribute would get an equal share of the words; for "
    "images, the gap that images shuffled among the groups show.",
    not_for="It finds some gaps and proves the absence of none: lists are short, and words stand for people "
    "badly. Never use it to certify a model as fair, nor a model to guess such attributes of people.",
)
_SHUFFLES = 200


def encoded(subject: Subject) -> int:
    """About how many images it encodes."""
    return 0 if subject.groups is None else len(subject.images)


def measure(subject: Subject) -> Findings:
    groups = subject.groups
    if groups is None:
        raise SkippedTest("needs attributes and words: --groups FILE")
    attributes = np.stack(
        [
            name_vectors(subject.encoder, [""], [_escaped(phrase) for phrase in phrases])[0]
            for _, phrases in groups.attributes
        ]
    )
    words = subject.encoder.texts([prompts.fill(word, groups.template)[0] for word in groups.words])
    findings, tables = _of_texts(groups, attributes, words)
    notes: tuple[str, ...] = ()
    examples: list[Example] = []
    given = subject.images
    places = [given.names.index(name) for name in groups.names if name in given.names]
    if given.reference == "label" and len(places) == len(groups.names):
        rows = np.flatnonzero(np.isin(given.labels, places))
        member = np.array([places.index(int(label)) for label in given.labels[rows]], dtype=np.int64)
        images = [given.images[i] for i in rows]
        answers = (subject.encoder.images(images) @ words.T).argmax(1)
        more, table = _of_images(subject, groups, member, answers)
        findings, tables = [*findings, *more], [*tables, table]
        examples = [
            example(image.pixels, groups.names[group], groups.words[answer], "the attribute, and the word")
            for image, group, answer in zip(images[:6], member, answers, strict=False)
        ]
    else:
        notes = ("Texts only: for images, give --images with labels that are the names of the attributes.",)
    settings = {"attributes": list(groups.names), "words": list(groups.words), "template": groups.template}
    return Findings(tuple(findings), tuple(examples), tuple(tables), settings, notes)


def _escaped(phrase: str) -> str:
    """A phrase as a template of an empty label."""
    return phrase.replace("{}", "") + "{}"


def _of_texts(groups: Groups, attributes: Vectors, words: Vectors) -> tuple[list[Finding], list[Table]]:
    cosines = words @ attributes.T  # [words groups]
    nearest = cosines.argmax(1)
    fair = 1 / len(groups.names)
    findings = [
        Finding(f"words nearest to {name}", share(nearest == place, fair), better=None)
        for place, name in enumerate(groups.names)
    ]
    gaps = cosines.max(1) - cosines.min(1)
    order = np.argsort(-gaps)
    rows = tuple((groups.words[i], *(f"{value:.3f}" for value in cosines[i]), f"{gaps[i]:.3f}") for i in order)
    return findings, [
        Table("Cosines of words and attributes, the largest gap first", ("word", *groups.names, "gap"), rows)
    ]


def _of_images(
    subject: Subject, groups: Groups, member: NDArray[np.int64], answers: NDArray[np.int64]
) -> tuple[list[Finding], Table]:
    """How far the groups' answers lie apart: half of the sum of differences of shares, 0 (alike) to 1 (apart)."""
    count, n = len(groups.words), len(member)
    given = np.eye(count)[answers]  # [n words]
    among = np.eye(len(groups.names))[member]  # [n groups]

    def apart(weights: NDArray[np.floating], among: NDArray[np.floating] = among) -> NDArray[np.floating]:
        sums = np.einsum("bn,ng,nw->bgw", weights, among, given, optimize=True)
        shares = sums / np.maximum(sums.sum(2, keepdims=True), 1)
        return np.asarray(np.abs(shares[:, :, None] - shares[:, None]).sum(3).max((1, 2))[:, None] / 2)

    random = subject.random("subgroups")
    one = np.ones((1, n))
    by_chance = float(np.mean([apart(one, among[random.permutation(n)])[0, 0] for _ in range(_SHUFFLES)]))
    (found,) = bootstrap(apart, n, centred=True)
    figure = Figure.of(found.within(0.0, 1.0), n, chance=by_chance)
    shares = (among.T @ given) / np.maximum(among.sum(0)[:, None], 1)
    order = np.argsort(-(shares.max(0) - shares.min(0)))
    rows = tuple((groups.words[w], *(f"{value:.1%}" for value in shares[:, w])) for w in order)
    table = Table("Share of a group's images that are answered with each word", ("word", *groups.names), rows)
    return [Finding("images: how far the answers of groups lie apart", figure, better="lower")], table
