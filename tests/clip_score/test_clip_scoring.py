"""CLIPScore and its relatives: the formulas, streams of rows, what is cut, and what cannot be scored."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from support import toy

from tandem import engine
from tandem.clip_score import (
    ScoreRow,
    clip_score,
    directional_similarity,
    formulas,
    image_similarity,
    iter_scores,
    ref_clip_score,
)
from tandem.clip_score.metrics import METRICS
from tandem.clip_score.results import figures_of
from tandem.errors import DataError, TandemError, TextError
from tandem.model import Model

PROMPTS = ["a cat", "a dog in snow", "two birds", "a red ball", "rain"]


@pytest.fixture(scope="module")
def model() -> Model:
    checkpoint = toy.checkpoint()
    return Model(checkpoint, engine.build(checkpoint.config, checkpoint.tensors))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return toy.write_images(tmp_path_factory.mktemp("images"), 5)


def unit(rows: list[list[float]]) -> np.ndarray:
    vectors = np.array(rows, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# --- arithmetic ------------------------------------------------------------------------------------------------------


def test_the_formulas_by_hand() -> None:
    cosine = np.array([0.4, -0.3, 0.2, 0.3], dtype=np.float32)
    assert formulas.clip_score(cosine) == pytest.approx([1.0, 0.0, 0.5, 0.75])
    reference = np.array([0.5, 0.9, -0.1, 0.25], dtype=np.float32)
    found = formulas.ref_clip_score(cosine, reference)
    assert found == pytest.approx([2 * 1.0 * 0.5 / 1.5, 0, 0, 2 * 0.75 * 0.25 / 1.0])
    assert found.dtype == np.float32


def test_the_nearest_of_several_references_counts() -> None:
    text = unit([[1, 0], [0, 1]])
    references = unit([[1, 1], [1, 0.1], [1, 0]])
    assert formulas.nearest(text, references, [2, 1]) == pytest.approx([1 / math.hypot(1, 0.1), 0.0], abs=1e-6)


def test_directions_by_hand() -> None:
    image, source = unit([[0, 1], [1, 0], [0, 1]]), unit([[1, 0], [1, 0], [1, 0]])
    text, before = unit([[0, 1], [0, 1], [1, 0]]), unit([[1, 0], [1, 0], [0, 1]])
    found = formulas.directional_similarity(image, source, text, before)
    assert found == pytest.approx([1, 0, -1], abs=1e-6)  # as asked; not at all; the other way
    assert formulas.has_direction(text, text).tolist() == [False] * 3
    assert formulas.directional_similarity(image, source, text, text).tolist() == [0, 0, 0]


def test_figures_have_the_mean_and_an_interval_that_holds_it() -> None:
    cosine = np.array([0.1, 0.2, 0.3, -0.2], dtype=np.float32)
    other = np.array([0.2, 0.1, np.nan, -0.2], dtype=np.float32)
    figures = figures_of(("clip_score",), {"cosine": cosine, "clip_score": formulas.clip_score(cosine), "other": other})
    score, times = figures["clip_score"], figures["clip_score_100"]
    assert score.value == pytest.approx(2.5 * 0.6 / 4)
    assert score.low < score.value < score.high
    assert score.n == 4
    assert times.value == pytest.approx(100 * 0.6 / 4)
    assert score.chance == pytest.approx(2.5 * 0.3 / 3)
    wins = figures["own_prompt_wins"]
    assert (wins.value, wins.n, wins.chance) == (pytest.approx(0.5), 3, 0.5)  # lost, won, and one draw
    with pytest.raises(DataError, match="nothing was scored"):
        figures_of(("clip_score",), {"clip_score": cosine[:0]})


def test_every_metric_is_whole_in_its_entry(model: Model, images: list[Path]) -> None:
    rows = [ScoreRow(image, prompt, ("a", "b"), images[0], "x") for image, prompt in zip(images, PROMPTS, strict=True)]
    for metric in METRICS:
        (part,) = iter_scores(model, rows, [metric])
        assert part.values[metric].shape == (5,)
        assert set(part.values) <= {metric, "cosine", "other"}


def test_scores_as_json_tables_and_in_notebooks(model: Model, images: list[Path]) -> None:
    found = clip_score(model, [images[0], b"not an image", images[1]], ["a <cat>", "b", "do " * 200])
    document = json.loads(found.to_json())
    assert document == found.as_dict()
    assert list(document["results"][1]) == ["row", "image", "prompt", "cosine", "clip_score", "cut_tokens"]
    assert [row["cut_tokens"] for row in document["results"]] == [0, found.cut[0].cut]
    assert document["failures"] == [found.failures[0].error.as_dict()]
    frame = found.to_pandas()
    assert frame.loc[str(images[0]), "clip_score"] == pytest.approx(float(found.scores[0]))
    assert "a &lt;cat&gt;" in found._repr_html_()
    nothing = clip_score(model, [b"not an image"], ["a cat"])
    assert (len(nothing.to_pandas()), json.loads(nothing.to_json())["results"]) == (0, [])
    assert "no image could be read" in nothing._repr_html_()


# --- images and texts ------------------------------------------------------------------------------------------------


def test_clip_score_is_that_of_the_models_vectors(model: Model, images: list[Path]) -> None:
    found = clip_score(model, images, PROMPTS)
    expected = np.einsum("nd,nd->n", model.embed_images(images), model.embed_texts(PROMPTS))
    assert found.values["cosine"] == pytest.approx(expected, abs=1e-6)
    assert found.scores == pytest.approx(2.5 * np.maximum(expected, 0), abs=1e-6)
    assert found.scores.dtype == np.float32
    assert found.prompts == tuple(PROMPTS)
    assert found.sources == tuple(map(str, images))
    assert found.worst(2) == np.argsort(found.scores, kind="stable")[:2].tolist()
    assert found.model.fingerprint == model.fingerprint
    with pytest.raises(AttributeError):
        found.prefix = "other"  # type: ignore[misc]


def test_one_prompt_is_that_of_all_and_the_prefix_goes_before_it(model: Model, images: list[Path]) -> None:
    found = clip_score(model, images, "a cat", prefix=formulas.PAPER_PREFIX)
    text = model.embed_texts("A photo depicts a cat")[0]
    assert found.values["cosine"] == pytest.approx(model.embed_images(images) @ text, abs=1e-6)
    assert found.figure.chance is None  # no other prompt to compare with
    assert "own_prompt_wins" not in found.figures


def test_references(model: Model, images: list[Path]) -> None:
    references = [["a cat", "a kitten"], "snow", ["two birds"], ["red"], ["it rains", "water", "sky"]]
    found = ref_clip_score(model, images, PROMPTS, references)
    text = model.embed_texts(PROMPTS)
    near = [
        max((model.embed_texts(some) @ vector).max(), 0) for some, vector in zip(references, text, strict=True)
    ]  # fmt: skip
    score = found.values["clip_score"]
    expected = [2 * s * r / (s + r) if s + r else 0 for s, r in zip(score, near, strict=True)]
    assert found.values["ref_clip_score"] == pytest.approx(expected, abs=1e-5)
    assert found.metrics[0] == "ref_clip_score"


def test_pairs_of_images(model: Model, images: list[Path]) -> None:
    same = image_similarity(model, images, source_images=images, batch_size=2)
    assert same.scores == pytest.approx(np.ones(5), abs=1e-5)
    assert same.as_dict()["results"][0].keys() == {"row", "image", "image_similarity", "cut_tokens"}
    turned = images[1:] + images[:1]
    vectors = model.embed_images(images)
    found = image_similarity(model, images, turned, batch_size=2)
    assert found.scores == pytest.approx(np.einsum("nd,nd->n", vectors, np.roll(vectors, -1, 0)), abs=1e-5)


def test_directional_similarity(model: Model, images: list[Path]) -> None:
    sources = images[1:] + images[:1]
    before = ["a dog", "a dog in snow", "three birds", "a blue ball", "sun"]
    found = directional_similarity(model, images, sources, PROMPTS, before)
    assert found.rows == (0, 2, 3, 4)  # row 1 asks for no change
    assert found.failures[0].index == 1
    assert "no direction" in found.failures[0].error.reason
    image = model.embed_images(images) - model.embed_images(sources)
    text = model.embed_texts(PROMPTS) - model.embed_texts(before)
    expected = [image[i] @ text[i] / np.linalg.norm(image[i]) / np.linalg.norm(text[i]) for i in found.rows]
    assert found.scores == pytest.approx(expected, abs=1e-4)
    still = directional_similarity(model, images, images, PROMPTS, "a stone")
    assert still.scores.tolist() == [0] * 5


def test_unreadable_images_are_listed_and_rows_keep_their_numbers(model: Model, images: list[Path]) -> None:
    found = clip_score(model, [images[0], b"not an image", images[2]], PROMPTS[:3])
    assert found.rows == (0, 2)
    assert found.prompts == (PROMPTS[0], PROMPTS[2])
    assert [failure.index for failure in found.failures] == [1]
    assert found.scores == pytest.approx(clip_score(model, images[:3], PROMPTS[:3]).scores[[0, 2]], abs=1e-6)
    nothing = clip_score(model, [b"not an image"], ["a cat"])
    assert len(nothing) == 0
    assert "no image could be read" in repr(nothing)
    assert nothing.as_dict()["figures"] == {}


def test_the_source_image_may_be_the_unreadable_one(model: Model, images: list[Path]) -> None:
    found = image_similarity(model, images[:3], [images[0], b"broken", images[2]])
    assert found.rows == (0, 2)
    assert found.failures[0].error.source == "<bytes>"


def test_long_texts_are_cut_before_the_end_token_and_reported(model: Model, images: list[Path]) -> None:
    long = "do " * 300
    found = clip_score(model, images[:2], ["cat", long], prefix="x")
    assert [(cut.row, cut.text) for cut in found.cut] == [(1, long)]
    room = model.tokenizer.room(model.config.text.context_length)
    assert found.cut[0].cut == found.cut[0].tokens - room > 0
    ids = model.tokenizer(["x " + long], model.config.text.context_length, truncate=True)
    assert ids[0, -1] == model.tokenizer.format.end_id
    vector = model.encode_token_ids(ids)[0]
    assert found.values["cosine"][1] == pytest.approx(float(model.embed_images(images[1])[0] @ vector), abs=1e-5)
    with pytest.raises(TextError, match="tokens"):
        clip_score(model, images[:2], ["cat", long], long="error")
    split = clip_score(model, images[:2], ["cat", long], long="split")
    assert split.cut == ()
    assert split.scores[1] != found.scores[1]


@pytest.mark.parametrize("prompts", [PROMPTS[:3], [*PROMPTS, "more"]])
def test_numbers_that_differ_are_refused(model: Model, images: list[Path], prompts: list[str]) -> None:
    with pytest.raises(DataError, match="prompts: expected one for each of the"):
        clip_score(model, images, prompts)


def test_what_a_metric_needs_is_named(model: Model, images: list[Path]) -> None:
    def scored(row: ScoreRow, *metrics: str) -> None:
        list(iter_scores(model, [row], metrics))  # type: ignore[arg-type]

    with pytest.raises(DataError, match="line 7: CLIPScore needs a prompt"):
        scored(ScoreRow(images[0], place="p.csv, line 7"), "clip_score")
    with pytest.raises(DataError, match="row 0: RefCLIPScore needs a reference"):
        scored(ScoreRow(images[0], "a cat"), "ref_clip_score")
    with pytest.raises(DataError, match="needs a source image"):
        scored(ScoreRow(images[0], "a cat"), "image_similarity")
    with pytest.raises(DataError, match="prompt: expected text, got int"):
        scored(ScoreRow(images[0], 7), "clip_score")  # type: ignore[arg-type]
    for metrics in (("beauty",), ()):
        with pytest.raises(TandemError, match="expected some of clip_score"):
            scored(ScoreRow(images[0], "a cat"), *metrics)


def test_a_stream_is_drawn_as_it_is_scored(model: Model, images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an endless stream of rows only some batches are drawn, and repeated prompts are encoded once."""
    monkeypatch.setattr("tandem.clip_score.scoring.ROWS", 2)
    monkeypatch.setattr("tandem.clip_score.scoring.SECONDS", 0.0)
    drawn = 0

    def rows() -> "object":
        nonlocal drawn
        while True:
            drawn += 1
            yield ScoreRow(images[drawn % 5], PROMPTS[drawn % 2])

    stream = iter_scores(model, rows(), batch_size=2)  # type: ignore[arg-type]
    first, second = next(stream), next(stream)
    assert drawn < 30
    assert (first.rows, second.rows) == ([0, 1], [2, 3])
    assert not np.isnan(first.values["other"]).any()
    assert first.values["other"][0] == pytest.approx(
        float(model.embed_images(images[1])[0] @ model.embed_texts(PROMPTS[0])[0]), abs=1e-5
    )


def test_vectors_of_texts_are_kept_within_bounds(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from tandem.clip_score.texts import TextVectors

    monkeypatch.setattr("tandem.clip_score.texts.KEPT", 3)
    texts = TextVectors(model)
    for start in range(0, 5):
        some = [f"text {start}", f"text {start + 1}"]
        assert texts.embed(some) == pytest.approx(model.embed_texts(some), abs=1e-5)
        assert len(texts._known) <= 3
    assert texts.embed([]).shape == (0, toy.DIMENSIONS)


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_texts_are_embedded_once_and_parts_do_not_depend_on_time(
    model: Model, images: list[Path], monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    asked: list[int] = []
    encode = Model.encode_token_ids

    def noted(self: Model, ids: "np.ndarray") -> "np.ndarray":
        asked.append(len(ids))
        return encode(self, ids)

    monkeypatch.setattr("tandem.clip_score.scoring.ROWS", 2)
    monkeypatch.setattr("tandem.clip_score.scoring.SECONDS", seconds)
    monkeypatch.setattr(Model, "encode_token_ids", noted)
    rows = [ScoreRow(image, prompt) for image, prompt in zip([*images, images[0]], [*PROMPTS, PROMPTS[1]], strict=True)]
    parts = list(iter_scores(model, rows, batch_size=2))
    assert [part.rows for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert sum(asked) == len(PROMPTS)
    assert len(asked) == (3 if seconds == 0 else 1)
    monkeypatch.undo()
    expected = np.einsum("nd,nd->n", model.embed_images(images), model.embed_texts(PROMPTS))
    found = np.concatenate([part.values["cosine"] for part in parts])
    assert found[:5] == pytest.approx(expected, abs=1e-6)


def test_a_text_that_is_refused_counts_only_where_its_image_can_be_read(model: Model, images: list[Path]) -> None:
    long = "do " * 300
    found = clip_score(model, [images[0], b"not an image"], ["cat", long], long="error")
    assert (found.rows, found.failures[0].index) == ((0,), 1)


def test_a_failed_source_image_keeps_the_number_of_its_row(model: Model, images: list[Path]) -> None:
    found = image_similarity(model, images[:3], [images[0], b"broken", images[2]])
    assert [failure.index for failure in found.failures] == [1]


def test_another_prompt_of_the_same_image_is_nothing_to_compare_with(model: Model, images: list[Path]) -> None:
    """Of four rows the prompt of the row two further is compared: here it is of the same image once."""
    rows = [images[0], images[1], str(images[0]), images[2]]
    found = clip_score(model, rows, PROMPTS[:4])
    assert np.isnan(found.values["other"]).tolist() == [True, False, True, False]


def test_directional_similarity_has_the_similarity_of_the_images_beside_it(model: Model, images: list[Path]) -> None:
    found = directional_similarity(model, images[:1], images[1:2], "a cat", "a dog")
    assert found.values["image_similarity"] == pytest.approx(image_similarity(model, images[:1], images[1:2]).scores)
    assert found.metrics == ("directional_similarity", "image_similarity", "clip_score")


def test_an_image_that_all_but_stayed_did_not_move() -> None:
    """Rounding alone moves a vector by about 1e-7; its direction says nothing."""
    image = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    source = image - np.array([[0.0, formulas.UNMOVED / 2], [0.0, 0.1]], np.float32)
    text, before = unit([[0, 1], [0, 1]]), unit([[1, 0], [1, 0]])
    found = formulas.directional_similarity(image, source, text, before)
    assert found[0] == 0
    assert found[1] == pytest.approx(1 / math.sqrt(2), abs=1e-5)


def test_the_chance_of_a_score_in_torchmetrics_unit_is_in_that_unit() -> None:
    values = {name: np.array([0.2, 0.4], np.float32) for name in ("cosine", "clip_score", "other")}
    found = figures_of(["clip_score"], values)
    assert found["clip_score"].chance == pytest.approx(2.5 * 0.3)
    assert found["clip_score_100"].chance == pytest.approx(100 * 0.3)
