"""Whether "but no" and "without" change anything: scenes of one thing each, and what is absent from them."""

import numpy as np

from tandem.audit import scenes
from tandem.audit.answers import ask_pairs, chosen, example, pair_examples, pair_findings
from tandem.audit.estimates import pair_outcomes, share
from tandem.audit.labelled_images import CaptionedImage
from tandem.audit.protocol import About, Finding, Findings, Subject
from tandem.audit.things import THINGS

ABOUT = About(
    title="Negation",
    measures='Images of one thing each, in pairs. Which of "a house but no tree" and "a tree but no house" '
    '(the same words) fits which; and which of the two images fits "a picture without a tree". The control asks '
    'for "a picture with a tree".',
    chance='50% for one of two; 1/6 for all four choices of a pair. Below 50% for "without" means that the word is not '
    "read: the image of the very thing is chosen.",
    not_for='It is no licence to search for what is absent ("beach without people"): use metadata, or subtract '
    "a query, and look at the results.",
)


def encoded(subject: Subject) -> int:
    """About how many images it encodes."""
    return 6 * subject.count(80)


def measure(subject: Subject) -> Findings:
    count, random = subject.count(80), subject.random("negation")
    pairs, with_it, without = [], [], []
    # "an apple but no tree" and "a tree but no apple" are not the same words.
    names = [name for name in THINGS if scenes.a(name).startswith("a ")]
    for _ in range(count):
        first, second = (str(name) for name in random.choice(names, 2, replace=False))
        shown = [scenes.thing(random, first), scenes.thing(random, second)]
        said = [f"{scenes.a(x)} but no {y}" for x, y in ((first, second), (second, first))]
        pairs.append((CaptionedImage(shown[0].pixels, said[0]), CaptionedImage(shown[1].pixels, said[1])))
        with_it.append([CaptionedImage(p.pixels, f"a picture with {scenes.a(p.shows)}") for p in shown])
        absent = [
            CaptionedImage(p.pixels, f"a picture without {scenes.a(q.shows)}")
            for p, q in zip(shown, shown[::-1], strict=True)
        ]
        without.append(absent)
    outcomes = ask_pairs(subject.encoder, pairs, same_words=True)
    asked = {
        word: pair_outcomes(
            subject.encoder.images([image for pair in captioned for image in pair]),
            subject.encoder.texts([image.shows for pair in captioned for image in pair]),
        )
        for word, captioned in (("with", with_it), ("without", without))
    }
    findings = [
        Finding('"with": image for a caption', share(asked["with"].image, 0.5), control=True),
        Finding('"without": image for a caption', share(asked["without"].image, 0.5)),
        *pair_findings('"but no"', outcomes),
    ]
    picked = np.argmax(asked["without"].cosines, axis=1)  # [p 2]: the image for each caption
    shown_examples = [
        example(pair[answer].pixels, f"the other one ({pair[place].shows})" if answer != place else pair[place].shows,
                pair[answer].shows, asked=texts[place].shows)
        for pair, texts, answers in zip(pairs, without, picked, strict=True)
        for place, answer in enumerate(answers)
    ]  # fmt: skip
    return Findings(
        tuple(findings), (*chosen(shown_examples, 4), *pair_examples(pairs, outcomes, 4)), settings={"pairs": count}
    )
