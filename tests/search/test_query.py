"""What is looked for becomes one vector: the parts weigh as they are said to, whatever their scale."""

import json

import numpy as np
import pytest

from tandem.errors import TandemError
from tandem.search.query import QueryPart, SearchQuery, combine, kind_of


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def space() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images around one common direction; words far from them, whose cosines spread ten times less."""
    random = np.random.default_rng(0)
    common = np.eye(16)[0]
    images = unit(common + random.normal(0, 0.4, (500, 16)))
    words = unit(-3 * np.eye(16)[1] + 0.3 * np.eye(16)[2])
    return images, words, unit(common + 2 * np.eye(16)[3])


def test_one_part_is_taken_as_it_is(space: tuple[np.ndarray, ...]) -> None:
    images, words, _ = space
    assert combine([QueryPart("words", words, 1.0)], images) is words
    assert combine([QueryPart("words", words, 1.0), QueryPart("image", images[0], 0.0)], images) is words


def test_equal_weights_follow_both_parts_equally(space: tuple[np.ndarray, ...]) -> None:
    images, words, image = space
    both = combine([QueryPart("words", words, 0.5), QueryPart("image", image, 0.5)], images)
    scores = images @ both
    with_words = np.corrcoef(scores, images @ words)[0, 1]
    with_image = np.corrcoef(scores, images @ image)[0, 1]
    assert with_words == pytest.approx(with_image, abs=0.02)
    assert np.linalg.norm(both) == pytest.approx(1, abs=1e-6)
    assert both.dtype == np.float32


def test_more_weight_follows_more(space: tuple[np.ndarray, ...]) -> None:
    images, words, image = space
    agreement = []
    for weight in (0.1, 0.5, 0.9):
        both = combine([QueryPart("words", words, weight), QueryPart("image", image, 1 - weight)], images)
        agreement.append(np.corrcoef(images @ both, images @ words)[0, 1])
    assert agreement == sorted(agreement)
    assert agreement[0] < 0.5 < agreement[2]


def test_what_is_to_be_avoided_loses(space: tuple[np.ndarray, ...]) -> None:
    images, _, image = space
    away = unit(np.eye(16)[4] + np.eye(16)[0])
    with_it = combine([QueryPart("image", image, 1.0)], images)
    without = combine([QueryPart("image", image, 1.0), QueryPart("image", away, -0.5)], images)
    best_with, best_without = np.argsort(-(images @ with_it))[:50], np.argsort(-(images @ without))[:50]
    assert (images[best_without] @ away).mean() < (images[best_with] @ away).mean()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_collections_of_hardly_anything(space: tuple[np.ndarray, ...], count: int) -> None:
    images, words, image = space
    both = combine([QueryPart("words", words, 0.5), QueryPart("image", image, 0.5)], images[:count])
    assert np.isfinite(both).all()


def test_no_direction_is_refused(space: tuple[np.ndarray, ...]) -> None:
    images, words, _ = space
    with pytest.raises(TandemError, match="minus alone"):
        combine([QueryPart("words", words, -0.5)], images)
    with pytest.raises(TandemError, match="nothing is left"):
        combine([QueryPart("words", words, 0.5), QueryPart("words", words, -0.5)], images)


def test_kinds(space: tuple[np.ndarray, ...]) -> None:
    _, words, image = space
    assert kind_of([QueryPart("words", words, 1.0)]) == "words"
    assert kind_of([QueryPart("image", image, 0.5)]) == "image"
    assert kind_of([QueryPart("words", words, 0.5), QueryPart("image", image, 0.5)]) == "mixed"
    assert kind_of([QueryPart("words", words, 1.0), QueryPart("words", words, -0.5)]) == "mixed"


def test_a_query_is_the_same_after_a_journey_as_json() -> None:
    query = SearchQuery("a cat", like="x", minus="a dog", weight=0.25, k=3, offset=6, where="width > 1", threshold=0.0)
    plain = json.loads(json.dumps(query.to_dict()))
    assert plain == {
        "text": "a cat",
        "like": "x",
        "minus": "a dog",
        "weight": 0.25,
        "k": 3,
        "offset": 6,
        "where": "width > 1",
        "threshold": 0.0,
    }
    assert SearchQuery.from_dict(plain).to_dict() == plain
    assert SearchQuery("a cat").to_dict() == {"text": "a cat"}
    image = np.zeros((4, 4, 3), np.uint8)
    assert SearchQuery(image=image).to_dict() == {"image": image}


def test_unknown_fields_of_a_query_are_named() -> None:
    with pytest.raises(TandemError, match="no field 'words' in a search; there are text, image, like, minus"):
        SearchQuery.from_dict({"words": "a cat"})
    with pytest.raises(TandemError, match="no field 'minus_images' in a search; did you mean 'minus_image'"):
        SearchQuery.from_dict({"minus_images": b"x"})


def test_a_whole_query_takes_nothing_beside_it() -> None:
    query = SearchQuery("a cat", k=3)
    assert SearchQuery.of(query, k=10, where=None) is query
    with pytest.raises(TandemError, match="k, where: expected in the SearchQuery, not beside it"):
        SearchQuery.of(query, k=3, where="width > 1")


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ({"text": "a"}, [1.0]),
        ({"image": "a.png"}, [1.0]),  # a weight of the text that is not there counts nothing
        ({"text": "a", "image": "a.png"}, [0.4, 0.6]),
        ({"text": "a", "image": "a.png", "like": "b"}, [0.4, 0.3, 0.3]),
        ({"image": "a.png", "like": "b"}, [0.5, 0.5]),
        ({"like": "b", "minus": "c", "minus_image": "d.png"}, [1.0, -0.5, -0.5]),
    ],
)
def test_parts_share_the_weight(given: dict[str, str], weights: list[float]) -> None:
    vectors = {name: np.eye(5, dtype=np.float32)[place] for place, name in enumerate(given)}
    parts = SearchQuery(**given, weight=0.4).parts(vectors)  # type: ignore[arg-type]
    assert [part.weight for part in parts] == pytest.approx(weights)
    assert all(part.vector is vector for part, vector in zip(parts, vectors.values(), strict=True))
    assert [part.kind for part in parts] == ["image" if "image" in name or name == "like" else "text" for name in given]


def test_what_happens_to_long_texts_is_part_of_the_query() -> None:
    query = SearchQuery("a cat", long="split")
    assert query.to_dict() == {"text": "a cat", "long": "split"}
    assert SearchQuery.from_dict(query.to_dict()).long == "split"
    assert SearchQuery("a cat", long="error").to_dict() == {"text": "a cat"}
    with pytest.raises(TandemError, match="long: expected one of error, truncate, split, got 'cut'"):
        SearchQuery("a cat", long="cut")  # type: ignore[arg-type]
