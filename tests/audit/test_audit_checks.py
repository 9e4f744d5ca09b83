"""The tests can pass and can fail: an oracle is right, a guesser at chance, a bag of words where order counts."""

from itertools import combinations

import numpy as np
import pytest
from PIL import Image
from support.audit_toys import BagOfWords, Guesser, Oracle

from tandem.arrays import Vectors
from tandem.audit import scenes
from tandem.audit.checks import hubness, typographic, word_order
from tandem.audit.groups import groups_of
from tandem.audit.image_sample import draw_things
from tandem.audit.labelled_images import CaptionedImage
from tandem.audit.pages import control_notes
from tandem.audit.protocol import Encoder, Finding, Findings, SkippedTest, Subject
from tandem.audit.result import TestResult
from tandem.audit.table import TESTS, load_test

ABILITIES = tuple(name for name in TESTS if name not in ("hubness", "subgroups"))


def measured(name: str, encoder: Encoder, scale: float = 0.05, **given: object) -> Findings:
    return load_test(name).measure(Subject(encoder, draw_things(0, 0.1), scale=scale, **given))  # type: ignore[arg-type]


def by_name(found: Findings) -> dict[str, Finding]:
    return {finding.name: finding for finding in found.findings}


@pytest.mark.parametrize("name", ABILITIES)
def test_an_oracle_is_right(name: str) -> None:
    for finding in measured(name, Oracle()).findings:
        figure = finding.figure
        assert not finding.is_weakness, finding.name
        if finding.better == "higher" and figure.unit == "share":
            assert figure.value == 1, finding.name
            assert finding.verdict == "above chance", finding.name


@pytest.mark.slow
def test_a_guesser_is_at_chance() -> None:
    found = [
        finding
        for name in ABILITIES
        if name != "corruptions"  # slow, and measured as `resolution` is
        for finding in measured(name, Guesser(), 0.5).findings
        if finding.figure.chance is not None and finding.better == "higher"
    ]
    assert len(found) > 30
    for finding in found:
        if finding.figure.unit == "share":
            assert finding.figure.value == pytest.approx(finding.figure.chance, abs=0.15), finding.name
    # Of a hundred intervals at 95%, five miss by luck.
    assert sum(finding.verdict in ("above chance", "higher") for finding in found) <= 0.05 * len(found)


@pytest.mark.parametrize(
    ("name", "blind"), [("binding", ("colours", "sizes")), ("word_order", ("same words",)), ("negation", ('"but no"',))]
)
def test_a_bag_of_words_is_at_chance_where_order_counts(name: str, blind: tuple[str, ...]) -> None:
    found = by_name(measured(name, BagOfWords(), 0.2))
    for title, finding in found.items():
        if title.startswith(blind):
            assert finding.at_chance, title
            assert finding.figure.value <= 0.5
        if finding.control and name == "binding":
            assert finding.figure.value == 1


def test_a_control_at_chance_says_that_nothing_was_shown() -> None:
    found = measured("position", Guesser(), 0.3)
    assert found.failed_controls == ("other shapes: caption for an image",)
    assert measured("position", Oracle()).failed_controls == ()
    result = TestResult("position", load_test("position").ABOUT, found, 0.0)
    assert "say nothing of the ability" in control_notes(result)[0]
    assert result.as_dict()["failed_controls"]


def test_a_model_that_reads_painted_words_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def paint(image: Image.Image, word: str, *, top: bool) -> Image.Image:
        painted = image.copy()
        painted.info["word"] = word
        return painted

    things = draw_things(0, 0.5)

    class Reader(Oracle):
        """Reads names; letters in another order mean nothing."""

        def images(self, images: list[CaptionedImage]) -> Vectors:  # type: ignore[override]
            words = [image.pixels.info.get("word", "") for image in images]
            given = zip(images, words, strict=True)
            return super().images(
                [CaptionedImage(p.pixels, word if word in things.names else p.shows) for p, word in given]
            )

    monkeypatch.setattr(typographic, "paint", paint)
    found = by_name(load_test("typographic").measure(Subject(Reader(), things)))
    assert found["right, clean image"].figure.value == found["right, letters shuffled"].figure.value == 1
    assert found["right, wrong word painted"].figure.value == 0  # on none of 96 is it the right one
    assert found["lost to the word's meaning"].figure.value == -1
    assert found["lost to the word's meaning"].is_weakness
    assert found["the painted word is the answer"].figure.value == 1
    assert found["the painted word is the answer"].is_weakness
    assert found["the same, beyond shuffled letters"].is_weakness


def test_a_painted_word_can_be_read() -> None:
    for size in ((64, 64), (300, 200)):
        image = Image.new("RGB", size, (200, 30, 30))
        painted = np.asarray(typographic.paint(image, "umbrella", top=False))
        assert (painted == np.asarray(image)).all(2).mean() > 0.6  # most of the image stays
        assert (painted.sum(2) < 150).sum() > size[0]  # letters
        assert np.array_equal(painted[: size[1] // 2], np.asarray(image)[: size[1] // 2])


def test_shuffled_words_and_letters() -> None:
    random = np.random.default_rng(0)
    assert scenes.same_words(word_order.shuffle("a dog runs on grass.", random).rstrip("."), "a dog runs on grass")
    assert word_order.shuffle("a b", random) == "b a"
    mixed = typographic.mixed("umbrella", ("umbrella",), random)
    assert sorted(mixed) == sorted("umbrella")
    assert mixed != "umbrella"
    assert typographic.mixed("aa", ("aa",), random) == "aa"


@pytest.mark.slow
def test_a_word_that_answers_everything_is_found() -> None:
    class Hub(Oracle):
        def images(self, images: list[CaptionedImage]) -> Vectors:  # type: ignore[override]
            return np.tile(self.texts(["bride"]), (len(images), 1))

    found = by_name(measured("hubness", Hub(), 0.5))
    assert found["most frequent answer"].figure.value == 1
    assert found["most frequent answer"].is_weakness
    fair = by_name(measured("hubness", Oracle(), 0.5))
    assert not fair["most frequent answer"].is_weakness
    assert fair["skewness of k-occurrence"].figure.value < found["skewness of k-occurrence"].figure.value


def test_a_hub_is_chosen_on_one_half_and_counted_on_the_other() -> None:
    near = np.array([[True, False], [True, False], [False, True], [False, True]])
    assert not hubness._hub(near, np.array([0, 0, 1, 1])).any()
    assert hubness._hub(near, np.array([0, 1, 0, 1])).tolist() == [True, True, False, False]


def test_an_equal_stranger_is_no_original_that_was_found() -> None:
    class Same(Oracle):
        def images(self, images: list[CaptionedImage]) -> Vectors:  # type: ignore[override]
            rows = super().images(images[:1])
            # As products of equal vectors come out of a multiplication of matrices.
            return np.concatenate([rows * np.float32(1 + 1e-7 * place) for place in range(len(images))])

    found = by_name(measured("near_duplicates", Same()))
    assert found["saved as JPEG: the original is nearest"].figure.value == 0


def test_without_asks_for_the_image_of_the_other_thing() -> None:
    asked: dict[str, dict[int, str]] = {"with": {}, "without": {}, "but no": {}}

    class Listening(Guesser):
        def images(self, images: list[CaptionedImage]) -> Vectors:  # type: ignore[override]
            word = next(word for word in ("without", "with", "but no") if f" {word} " in images[0].shows)
            asked[word] |= {id(image.pixels): image.shows for image in images}
            kept.extend(images)
            return super().images(images)

    kept: list[CaptionedImage] = []  # else another object may get the same id
    measured("negation", Listening())
    assert asked["with"].keys() == asked["without"].keys() == asked["but no"].keys()
    for place, text in asked["but no"].items():
        shown, absent = (name.split()[-1] for name in text.split(" but no "))
        assert asked["with"][place].split()[-1] == shown
        assert asked["without"][place].split()[-1] == absent != shown


def test_a_guess_is_one_point_six_from_the_right_number() -> None:
    distance = by_name(measured("counting", Guesser(), 1))["distance from the right number"]
    assert distance.figure.chance == pytest.approx(np.abs(np.subtract.outer(range(5), range(5))).mean())
    assert distance.figure.low < 1.6 < distance.figure.high


def test_gaps_between_groups_are_found_in_texts() -> None:
    class Partial(Oracle):
        def read(self, text: str) -> Vectors:
            return super().read("a cat" if text.startswith("the") else text)

    groups = groups_of({"attributes": {"cats": "a cat", "dogs": ["a dog"]}, "words": [f"the {i}" for i in range(8)]})
    found = by_name(measured("subgroups", Partial(), groups=groups))
    assert found["words nearest to cats"].figure.value == 1
    assert found["words nearest to cats"].verdict == "above chance"
    assert found["words nearest to dogs"].figure.value == 0
    with pytest.raises(SkippedTest, match="--groups"):
        measured("subgroups", Oracle())


@pytest.mark.parametrize(("apart", "shown"), [(True, "above chance"), (False, "not shown to differ from chance")])
def test_gaps_between_groups_are_found_in_images(apart: bool, shown: str) -> None:
    class Answers(Guesser):
        def images(self, images: list[CaptionedImage]) -> Vectors:  # type: ignore[override]
            if not apart:
                return super().images(images)
            return self.texts(["good" if image.shows == "sun" else "bad" for image in images])

    things = draw_things(0, 0.5)
    images = type(things)(
        things.images, things.names, things.labels, "label", things.templates, things.source, things.hash
    )
    groups = groups_of({"attributes": {"sun": "sun", "moon": "moon"}, "words": ["good", "bad"]})
    found = by_name(load_test("subgroups").measure(Subject(Answers(), images, groups)))
    gap = found["images: how far the answers of groups lie apart"]
    assert gap.verdict == shown
    if apart:  # six good and six bad answers, shuffled among two groups of six
        good = [sum(half) for half in combinations([1] * 6 + [0] * 6, 6)]
        assert gap.figure.value == 1
        assert gap.figure.chance == pytest.approx(np.abs(2 * np.array(good) - 6).mean() / 6, abs=0.04)


@pytest.mark.slow
def test_the_bar_knows_how_many_images_there_are() -> None:
    class Counting(Guesser):
        count = 0

        def images(self, images: list[CaptionedImage]) -> Vectors:  # type: ignore[override]
            self.count += len(images)
            return super().images(images)

    for name in TESTS:
        if name in ("corruptions", "subgroups"):
            continue
        encoder = Counting()
        subject = Subject(encoder, draw_things(0, 0.1), scale=0.1)
        load_test(name).measure(subject)
        assert encoder.count == pytest.approx(load_test(name).encoded(subject), rel=0.34), name
