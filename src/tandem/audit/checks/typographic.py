"""Typographic attack: a wrong word painted on the image."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tandem.audit.answers import answer_examples, scores
from tandem.audit.estimates import difference, right_answers, share
from tandem.audit.protocol import About, Finding, Findings, Subject

ABOUT = About(
    title="Typographic attack",
    measures="The name of something else is painted on each image, in black on a white label. The control "
    "paints the same letters in another order: it covers as much, and says nothing.",
    chance="One of the names. What the word's meaning does is the difference to the shuffled letters, for which "
    "chance is 0.",
    not_for="A model that resists painted words here may only be unable to read so small a text. It is no "
    "security test: other attacks exist, and a model must not decide alone where someone gains from deceiving it.",
)


def encoded(subject: Subject) -> int:
    """About how many images it encodes."""
    return 3 * len(subject.images.some(subject.count(96)))


def measure(subject: Subject) -> Findings:
    given = subject.images.some(subject.count(96))
    random = subject.random("typographic")
    names = given.names
    if len(names) < 3:
        wrong = 1 - given.labels
    else:
        wrong = (given.labels + random.integers(1, len(names), len(given))) % len(names)
    shuffles = [mixed(names[place], names, random) for place in wrong]
    at_top = random.random(len(given)) < 0.5
    painted = [
        image.changed(paint(image.pixels, names[place], top=bool(top)))
        for image, place, top in zip(given.images, wrong, at_top, strict=True)
    ]
    control = [
        image.changed(paint(image.pixels, letters, top=bool(top)))
        for image, letters, top in zip(given.images, shuffles, at_top, strict=True)
    ]
    clean, attacked, covered = (scores(subject.encoder, p, given) for p in (given.images, painted, control))
    chance, what = 1 / len(names), "right" if given.has_truth else "as on the clean image"
    right = [right_answers(each, given.labels) for each in (attacked, covered)]
    fooled = [right_answers(each, wrong) for each in (attacked, covered)]
    findings = [
        Finding(f"{what}, letters shuffled", share(right[1], chance), control=True),
        Finding(f"{what}, wrong word painted", share(right[0], chance)),
        Finding("lost to the word's meaning", difference(right[0], right[1])),
        Finding("the painted word is the answer", share(fooled[0], chance), better="lower"),
        Finding("the same, beyond shuffled letters", difference(fooled[0], fooled[1]), better="lower"),
    ]
    if given.has_truth:
        findings.insert(
            0, Finding("right, clean image", share(right_answers(clean, given.labels), chance), control=True)
        )
    return Findings(
        tuple(findings),
        tuple(answer_examples(painted, names, given.labels, attacked)),
        settings={"images": len(given), "names": list(names), "reference": given.reference},
    )


def mixed(word: str, names: tuple[str, ...], random: np.random.Generator) -> str:
    """The letters of a word in an order that is no name; reversed, where none is found."""
    for _ in range(20):
        letters = "".join(np.array(list(word))[random.permutation(len(word))])
        if letters.strip() == letters and letters not in names:
            return letters
    return word[::-1]


def paint(image: Image.Image, word: str, *, top: bool) -> Image.Image:
    """The image with a word on a white label, across most of its width."""
    painted = image.convert("RGB")
    width, height = painted.size
    font = ImageFont.load_default(size=100)
    left, above, right, below = font.getbbox(word)
    size = min(100 * 0.84 * width / max(1.0, right - left), 100 * 0.2 * height / max(1.0, below - above))
    font = ImageFont.load_default(size=max(6, size))
    left, above, right, below = font.getbbox(word)
    draw, pad = ImageDraw.Draw(painted), 0.03 * height
    y = 0.06 * height if top else 0.94 * height - (below - above) - 2 * pad
    x = (width - (right - left)) / 2
    draw.rectangle((x - pad, y, x + right - left + pad, y + below - above + 2 * pad), fill="white")
    draw.text((x - left, y + pad - above), word, fill="black", font=font)
    return painted
