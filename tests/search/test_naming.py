"""Names of clusters: the common word that clearly sets them apart, and none where no word does."""

import numpy as np
import pytest
from test_duplicates import near, scattered, unit

from tandem.arrays import Vectors
from tandem.search.exploring import naming
from tandem.search.exploring.naming import Candidates, candidates, fit, name

D, EVERYDAY = 32, 60


@pytest.fixture(scope="module")
def heaps() -> tuple[Vectors, np.ndarray]:
    """Images [150 d] around the first three axes, away from the texts as contrastive models have it; their clusters."""
    which = np.repeat([0, 1, 2], [60, 50, 40])
    gap = np.zeros(D)
    gap[-1] = 2
    return unit(near(np.eye(D, dtype=np.float32)[which], 0.8) + gap), which.astype(np.int32)


def words_at(*places: int) -> Vectors:
    """Everyday words of any meaning, [e d], but the first, which mean these axes, and the last, near to all images."""
    meanings = scattered(EVERYDAY, D, seed=5)
    meanings[: len(places)] = np.eye(D)[list(places)]
    meanings[-1] = np.eye(D)[-1]
    return unit(meanings - np.eye(D)[-1] / 3 * (np.arange(EVERYDAY) < EVERYDAY - 1)[:, None])


def plain(*words: str) -> Candidates:
    names = (*words, *(f"word {i}" for i in range(EVERYDAY - len(words))))
    return Candidates(names, EVERYDAY, np.zeros(EVERYDAY))


def test_names_say_what_sets_a_cluster_apart_and_a_hub_names_nothing(heaps: tuple[Vectors, np.ndarray]) -> None:
    images, which = heaps
    meanings = words_at(0, 1, 2)
    assert set((images @ meanings.T).argmax(axis=1)) == {EVERYDAY - 1}  # by cosine, the hub is each image's nearest
    assert [found[0] for found in name(images, which, 3, plain("cat", "dog", "boat"), meanings)] == [
        "cat",
        "dog",
        "boat",
    ]


def test_where_no_word_clearly_fits_there_is_no_name(heaps: tuple[Vectors, np.ndarray]) -> None:
    images, which = heaps
    found = name(images, which, 3, plain("cat", "dog"), words_at(0, 1))
    assert [bool(words) for words in found] == [True, True, False]
    of_nothing = scattered(EVERYDAY, D, seed=9)  # a model that knows no words
    of_nothing[:, :3] = 0
    assert name(images, which, 3, plain(), unit(of_nothing)) == [(), (), ()]


def test_a_word_must_fit_and_stand_out_of_the_others(
    heaps: tuple[Vectors, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each bar alone takes a name away."""
    images, which = heaps
    chosen, meanings = plain("cat", "dog", "boat"), words_at(0, 1, 2)
    fits = fit(images, which, 3, meanings, EVERYDAY)
    lead = (fits[0, 0] - fits[0].mean()) / fits[0].std()
    error = 2 * (1 / 60 + 1 / 90) ** 0.5
    for bar, value in (("MIN_FIT", fits[0, 0] - error), ("MIN_LEAD", lead)):
        for by, named in ((-1e-6, True), (1e-6, False)):
            with monkeypatch.context() as patched:
                patched.setattr(naming, bar, value + by)
                assert bool(name(images, which, 3, chosen, meanings)[0]) is named
                # However many words a vocabulary has besides, it is the everyday ones that a name stands out of.
                more = Candidates((*chosen.words, *"abcdefghij"), EVERYDAY, np.zeros(EVERYDAY + 10))
                again = np.concatenate([meanings, np.repeat(meanings[5:6], 10, axis=0)])
                assert bool(name(images, which, 3, more, again)[0]) is named


def test_few_images_have_no_names(heaps: tuple[Vectors, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """Six photos of the demo in three clusters were called "pudding", "arch" and "chilli", as clearly as could be."""
    images, which = heaps
    chosen, meanings = plain("cat", "dog", "boat"), words_at(0, 1, 2)
    rows = np.sort(np.concatenate([np.flatnonzero(which == cluster)[:10] for cluster in range(3)]))
    assert [words[:1] for words in name(images[rows], which[rows], 3, chosen, meanings)] == [
        ("cat",),
        ("dog",),
        ("boat",),
    ]
    assert name(images[rows[1:]], which[rows[1:]], 3, chosen, meanings) == [(), (), ()]


def test_three_words_describe_a_cluster_at_most(
    heaps: tuple[Vectors, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, which = heaps
    monkeypatch.setattr(naming, "MIN_LEAD", 1.0)
    words = ("cat", "kitten", "tomcat", "tabby", "persian")
    (found, *_) = name(images, which, 3, plain(*words), words_at(0, 0, 0, 0, 0))
    assert len(found) == 3
    assert set(found) < set(words)


def test_the_fit_is_the_difference_in_standard_deviations(heaps: tuple[Vectors, np.ndarray]) -> None:
    """Cohen's d of cosines less their mean over the everyday words, in blocks as at once; 0 with nothing to compare."""
    images, which = heaps
    meanings = np.concatenate([words_at(0, 1), scattered(3, D)])
    scores = images @ meanings.T
    scores = (scores - scores[:, :EVERYDAY].mean(axis=1, keepdims=True)).astype(np.float64)
    inside, outside = scores[which == 1], scores[which != 1]
    wanted = (inside.mean(0) - outside.mean(0)) / np.sqrt((inside.var(0) + outside.var(0)) / 2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(naming, "BLOCK", 37)
        found = fit(images, which, 5, meanings, EVERYDAY)
    np.testing.assert_allclose(found[1], wanted, rtol=1e-3)
    assert not found[3:].any()  # empty clusters
    assert not fit(images, np.zeros_like(which), 1, meanings, EVERYDAY).any()
    two = images[[0, 70]]  # each a cluster of its own: by no deviation at all, any word would fit
    assert not fit(two, np.arange(2, dtype=np.int32), 2, meanings, EVERYDAY).any()
    assert name(images, np.zeros_like(which), 2, plain("cat"), meanings[:EVERYDAY]) == [(), ()]


def test_few_images_must_agree_more(heaps: tuple[Vectors, np.ndarray]) -> None:
    """What four images have in common may be chance: the fit counts less two standard errors."""
    images, which = heaps
    chosen, meanings = plain("cat", "dog", "boat"), words_at(0, 1, 2)
    fits = [fit(images, part, 4, meanings, EVERYDAY) for part in (which, np.where(np.arange(150) < 4, 3, which))]
    bar = float(fits[1][3, 0] - 2 * (1 / 4 + 1 / 146) ** 0.5 + 1e-6)
    assert fits[1][3, 0] > bar
    assert fits[0][0, 0] - 2 * (1 / 60 + 1 / 90) ** 0.5 > bar
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(naming, "MIN_FIT", bar)
        few = np.where(np.arange(150) < 4, 3, which).astype(np.int32)
        assert name(images, few, 4, chosen, meanings)[3] == ()
        assert name(images, which, 3, chosen, meanings)[0][0] == "cat"


def test_a_common_word_comes_before_a_rare_one_that_fits_a_little_better(heaps: tuple[Vectors, np.ndarray]) -> None:
    images, which = heaps
    meanings = words_at(0, 1, 2)
    better = unit(np.eye(D)[:1] + 0.1 * (images[which == 0].mean(axis=0) - images.mean(axis=0)))
    all_meanings = np.concatenate([meanings, unit(better - np.eye(D)[-1] / 3)])
    words = (*plain("cat", "dog", "boat").words, "abyssinian")
    fits = fit(images, which, 3, all_meanings, EVERYDAY)
    ahead = float(fits[0, EVERYDAY] - fits[0, 0])
    assert ahead > 0
    for penalty, wanted in ((ahead * 0.9, "abyssinian"), (ahead * 1.1, "cat")):
        chosen = Candidates(words, EVERYDAY, np.append(np.zeros(EVERYDAY), penalty))
        assert name(images, which, 3, chosen, all_meanings)[0][0] == wanted
    # Where the common word does not fit well enough, the rare one behind it is no name either.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(naming, "MIN_FIT", fits[0, 0] - 2 * (1 / 60 + 1 / 90) ** 0.5 + ahead / 2)
        assert name(images, which, 3, chosen, all_meanings)[0] == ()


def test_the_built_in_words_are_common_first_and_a_users_are_equal() -> None:
    ours, theirs = candidates(), candidates(["dog", "greyhound"])
    everyday = ours.words[: ours.everyday_count]
    assert everyday == theirs.words[: theirs.everyday_count]
    assert len(set(everyday)) == len(everyday) > 300
    assert len(set(ours.words)) == len(ours.words) > 1300
    place = {word: ours.penalty[index] for index, word in enumerate(ours.words)}
    assert place["man"] < place["dog"] < place["lion"] < place["greyhound"]
    assert (np.diff(ours.penalty) >= 0).all()
    usable = {word for word, penalty in zip(theirs.words, theirs.penalty, strict=True) if penalty == 0}
    assert usable == {"dog", "greyhound"}
    assert len(theirs.words) == theirs.everyday_count + 1
    assert np.isinf(theirs.penalty[: theirs.everyday_count]).sum() == theirs.everyday_count - 1


def test_a_users_words_are_the_only_names(heaps: tuple[Vectors, np.ndarray]) -> None:
    """They stand out of the everyday words, which name nothing themselves, however few they are."""
    images, which = heaps
    meanings = np.concatenate([words_at(0, 1, 2), words_at(1)[:1]])
    names = (*plain("cat", "dog", "boat").words, "my dog")
    chosen = Candidates(names, EVERYDAY, np.append(np.full(EVERYDAY, np.inf), 0))
    assert name(images, which, 3, chosen, meanings) == [(), ("my dog",), ()]


def test_two_groups_of_one_thing_have_one_name(heaps: tuple[Vectors, np.ndarray]) -> None:
    images, which = heaps
    parts = np.where((which == 0) & (np.arange(150) % 2 == 0), 3, which).astype(np.int32)
    chosen, meanings = plain("cat", "dog", "boat"), words_at(0, 1, 2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(naming, "MIN_FIT", 0.0)  # a third of what is outside shows the same
        patched.setattr(naming, "MIN_LEAD", 1.0)
        found = name(images, parts, 4, chosen, meanings)
    assert (found[0][0], found[3][0]) == ("cat", "cat")
