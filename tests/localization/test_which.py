"""`Model.which`: the image or the region that is meant, among several."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from support.locating_toys import small

import tandem
from tandem.audit.placed_scenes import shapes_scene, things_scene
from tandem.errors import ImageError
from tandem.localization.boxes import Box
from tandem.localization.choosing import choose
from tandem.localization.locating import Locator
from tandem.localization.location import Locations


def test_which_of_several_images(model: tandem.Model) -> None:
    random = np.random.default_rng(4)
    apple, other = (things_scene(random, kinds) for kinds in (("apple", "cloud", "tree"), ("moon", "sun", "car")))
    choice = model.which([other.pixels, b"broken", apple.pixels], f"pick up the {apple.things[0].words} please")
    assert choice.kind == "images"
    assert choice.instruction.thing == apple.things[0].words
    assert [failure.index for failure in choice.failures] == [1]
    assert len(choice.candidates) == 2
    scores = [each.score for each in choice.candidates if each.present]
    assert scores == sorted(scores, reverse=True)
    assert choice.ranked_by == choice.as_dict()["ranked_by"] == "score"
    assert choice.lead == choice.candidates[0].score - choice.candidates[1].score
    assert choice.as_dict()["lead"] == pytest.approx(choice.lead, rel=1e-4)
    with pytest.raises(ImageError):
        model.which([b"broken"], "the dog")


class Told:
    """A locator that finds in each image what is told: whether the thing is there, and its score."""

    def __init__(self, found: Locations) -> None:
        self.found = found

    def locate(self, image: str, texts: object) -> Locations:
        if image == "broken":
            raise ImageError("broken", "not an image", "damaged")
        there, score = image.split()
        location = replace(self.found[0], present=there == "there", score=float(score), boxes=())
        return replace(self.found, source=image, locations=(location,))


def test_the_image_where_the_thing_is_wins(model: tandem.Model, scene: Image.Image) -> None:
    told = Told(small(model, scene, ["red"]))
    choice = choose(told, ["absent 9", "there 1", "broken", "there 3"], "the red thing")  # type: ignore[arg-type]
    assert [each.source for each in choice.candidates] == ["there 3", "there 1", "absent 9"]
    assert choice.best is not None
    assert choice.best.source == "there 3"
    left = choose(told, ["broken", "there 2"], "the red thing")  # type: ignore[arg-type]
    assert (left.kind, left.ranked_by) == ("images", "score")  # several were asked about, though one can be read
    assert choose(told, ["absent 9", "absent 3"], "it").best is None  # type: ignore[arg-type]


def test_regions_are_ranked_by_heat_and_have_the_score_of_their_image(model: tandem.Model, scene: Image.Image) -> None:
    found = small(model, scene, ["red"])
    boxes = (Box(0, 0, 10, 10, 0.25), Box(20, 20, 40, 40, 0.75))
    found = replace(found, locations=(replace(found[0], present=True, boxes=boxes),))

    class Fixed:
        def locate(self, image: object, texts: object) -> Locations:
            return found

    choice = choose(Fixed(), scene, "the red thing")  # type: ignore[arg-type]
    assert [each.heat for each in choice.candidates] == [0.75, 0.25]
    assert {each.score for each in choice.candidates} == {found[0].score}
    assert (choice.ranked_by, choice.lead) == ("heat", 0.5)
    assert found.as_dict()["locations"][0]["boxes"][1] == {"box": [20, 20, 40, 40], "heat": 0.75}


def test_scenes_are_seeded_and_their_boxes_are_around_what_was_drawn() -> None:
    for make in (things_scene, shapes_scene):
        scene, again = (make(np.random.default_rng(3)) for _ in range(2))
        assert scene.things == again.things
        assert np.array_equal(np.asarray(scene.pixels), np.asarray(again.pixels))
        assert 2 <= len(scene.things) <= 6
        assert scene.absent not in {thing.words for thing in scene.things}
        ground = np.asarray(scene.pixels)[0, 0]
        outside = np.abs(np.asarray(scene.pixels).astype(int) - ground).sum(axis=2) > 30
        for thing in scene.things:
            left, top, right, bottom = thing.box
            assert outside[top:bottom, left:right].any()
            outside[top:bottom, left:right] = False
        assert not outside.any()


@pytest.mark.slow
def test_the_model_that_ships_points_at_drawn_things_that_it_knows() -> None:
    """bench/locate.py measures it on more scenes, and "there / not there" too."""
    random, locator = np.random.default_rng(99), Locator(tandem.load())
    assert locator.settings.presence is not None  # its settings are in its folder, and for its weights
    known = locator.settings.figures["known_kinds"]
    assert len(known) >= 4
    hits, covered, there, absent = [], [], [], []
    for _ in range(40):  # as many as in the documents: of fourteen the area varies by a tenth
        scene = things_scene(random)
        features = locator.encode(scene.pixels, locator.settings)
        boxes = {thing.words: thing.box for thing in scene.things}
        for text in known:
            found = locator.find(features, [text], locator.contrast([text], locator.settings), locator.settings)[0]
            (there if text in boxes else absent).append(found.score)
            if text in boxes:
                left, top, right, bottom = boxes[text]
                hits.append(left <= found.point[0] < right and top <= found.point[1] < bottom)
                covered.append((right - left) * (bottom - top) / (found.width * found.height))
    assert np.mean(hits) >= 6 * np.mean(covered)
    assert np.mean([a > b for a in there for b in absent]) > 0.65  # chance: 0.5; 0.69 in the documents
