"""How names of clusters are judged by captions, and that those of the model that ships pass."""

from pathlib import Path

import cluster_names
import numpy as np
import pytest

from tandem.search.exploring import clusters
from tandem.search.exploring.naming import candidates, name


def test_what_is_said_of_a_picture() -> None:
    captions = [("Two dogs run .", "A man surfing"), ("Children swim in the swimming pool",), ("a woman",)]
    words = ("dog", "surfer", "men", "child", "swimming pool", "women", "do", "running dog")
    said = cluster_names.said_of(words, captions).T
    assert [[word for word, is_said in zip(words, row, strict=True) if is_said] for row in said] == [
        ["dog", "surfer", "men", "running dog"], ["child", "swimming pool"], ["women"],
    ]  # fmt: skip


def test_a_name_is_right_that_is_said_often_and_more_often_than_elsewhere() -> None:
    members = np.repeat([0, 1], [8, 40])
    said = np.zeros((4, 48), dtype=bool)
    said[0, :2] = True  # a quarter
    said[1, :1] = True
    said[2, [*range(4), *range(8, 18)]] = True  # half, and a quarter elsewhere
    said[3, [*range(4), *range(8, 19)]] = True
    assert cluster_names.right(said, members, 2, 0.25)[0].tolist() == [True, False, True, False]
    assert cluster_names.right(said, members, 2, 0.5)[0].tolist() == [False, False, True, False]


@pytest.mark.slow
def test_names_of_photos_are_in_their_captions(shared: Path) -> None:
    """Of the names of 1,000 photos that tandem-mini never saw, six of ten are right at least."""
    words = candidates()
    tar = shared / "data" / "flickr8k" / "dev-00000.tar"
    images, meanings, said = cluster_names.read([tar], None, words.words, None)
    given, right = 0, 0
    for seed in range(4):
        centres = clusters.find_centres(images, clusters.choose_count(len(images)), seed=seed)
        members, _ = clusters.assign(images, centres)
        fair = cluster_names.right(said, members, len(centres), cluster_names.OFTEN)
        for cluster, found in enumerate(name(images, members, len(centres), words, meanings)):
            given += bool(found)
            right += bool(found) and bool(fair[cluster, words.words.index(found[0])])
    assert given >= 4
    assert right >= 0.6 * given
