"""Which colour, size or pattern belongs to which object: pairs of scenes with the two swapped."""

from tandem.audit import scenes
from tandem.audit.answers import ask_pairs, pair_examples, pair_findings
from tandem.audit.protocol import About, Findings, Subject

ABOUT = About(
    title="Binding colours and attributes to objects",
    measures="Pairs of scenes such as a red cube and a blue ball against a blue cube and a red ball, with both "
    "captions; then sizes, patterns and fillings. Both captions are the same bag of words, so only what belongs to "
    "what tells them apart. The control is two scenes that share no object and no colour.",
    chance="50% for one caption of two, or one image of two; 1/6 for all four choices of a pair. A model that always "
    "prefers one of the captions, or one of the images, gets exactly 50%.",
    not_for="Where the control is at chance, the model does not know these objects, and the figures say nothing "
    "of binding. Above chance here does not mean that long descriptions of photos are understood.",
)


def encoded(subject: Subject) -> int:
    """About how many images it encodes."""
    return 6 * subject.count(80)


def measure(subject: Subject) -> Findings:
    count = subject.count(80)
    random = subject.random("binding")
    control = [scenes.other_things_pair(random) for _ in range(count)]
    colours = [scenes.colour_pair(random) for _ in range(count)]
    attributes = [scenes.attribute_pair(random) for _ in range(count)]
    answered = {
        "other objects and colours": (control, ask_pairs(subject.encoder, control)),
        "colours": (colours, ask_pairs(subject.encoder, colours, same_words=True)),
        "sizes and patterns": (attributes, ask_pairs(subject.encoder, attributes, same_words=True)),
    }
    findings = [
        finding
        for name, (pairs, outcomes) in answered.items()
        for finding in pair_findings(name, outcomes, control=pairs is control)
    ]
    examples = [
        each
        for pairs, outcomes in answered.values()
        if pairs is not control
        for each in pair_examples(pairs, outcomes, 4)
    ]
    return Findings(tuple(findings), tuple(examples), settings={"pairs": count})
