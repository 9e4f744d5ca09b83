"""Left and right, above and below: pairs of scenes with two shapes in each other's place."""

from tandem.audit import scenes
from tandem.audit.answers import ask_pairs, pair_examples, pair_findings
from tandem.audit.protocol import About, Findings, Subject

ABOUT = About(
    title="Left and right, above and below",
    measures='Pairs of scenes with two shapes in each other\'s place, and the captions with "to the left of" and '
    '"to the right of", or "above" and "below". The control is two scenes that share no shape.',
    chance="50% for one caption of two, or one image of two; 1/6 for all four choices of a pair.",
    not_for="It says nothing of directions as seen by someone in an image. Images mirrored in training make left "
    "and right unlearnable: a model at chance was perhaps never told.",
)
_WORDS = {"left and right": ("to the left of", "to the right of"), "above and below": ("above", "below")}


def encoded(subject: Subject) -> int:
    """About how many images it encodes."""
    return 6 * subject.count(80)


def measure(subject: Subject) -> Findings:
    count, random = subject.count(80), subject.random("position")
    control = [scenes.other_shapes_pair(random) for _ in range(count)]
    findings = pair_findings("other shapes", ask_pairs(subject.encoder, control), control=True)
    examples = []
    for name, words in _WORDS.items():
        pairs = [scenes.position_pair(random, words) for _ in range(count)]
        outcomes = ask_pairs(subject.encoder, pairs)
        findings += pair_findings(name, outcomes)
        examples += pair_examples(pairs, outcomes, 4)
    return Findings(tuple(findings), tuple(examples), settings={"pairs": count})
