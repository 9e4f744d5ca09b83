"""A step's batch is a function of the recipe and the step: whoever makes it, and in how many parts."""

import dataclasses
import re
import tomllib
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import toy
from support.training_toys import (
    CAPTIONED,
    COLOURS,
    NAMED,
    NAMES,
    all_images,
    colour_of,
    matrix,
    recipe,
    write_parquet,
    write_tar,
)

from tandem.errors import ConfigError, DataError
from tandem.train.data.batch import Batch, Matches
from tandem.train.data.loader import Loader, texts_of
from tandem.train.recipe import Recipe

BROADER = {"warm": ["red", "white"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Names and captions; in each, one image that cannot be decoded."""
    images = all_images()
    images[3] = b"no image"
    write_parquet(tmp_path / "names.parquet", images)
    images = all_images()
    images[17] = images[17][:60]
    write_tar(tmp_path / "captions.tar", images)
    write_tar(tmp_path / "more.tar", captions=1)
    return tmp_path


def mixed(root: Path, **changes: Any) -> Recipe:
    """Everything at once: shared texts, several captions, classes, patches left out, two sizes."""
    return recipe(
        root,
        {**NAMED, "broader": BROADER, "augment": "strong", "templates": ["a {}.", "{}"]},
        {**CAPTIONED, "captions_per_image": 2},
        {**CAPTIONED, "path": "{captions,more}.tar", "per_batch": 5, "augment": "paper"},
        **{
            "patch_dropout": 0.4,
            "objective": {"classes": 1.0},
            "stages": [{"start": 0.0, "image_size": 8}, {"start": 0.5, "image_size": 16}],
            **changes,
        },
    )


def joined(parts: list[Batch]) -> Batch:
    """The batch of one process, from those of several."""
    for part, before in zip(parts[1:], parts, strict=False):
        assert part.first_image == before.first_image + len(before.pixels)
        assert part.first_text == before.first_text + len(before.texts)
    whole = parts[0]
    classes = None
    if whole.classes is not None:
        rows = [part.classes.rows + part.first_image for part in parts if part.classes is not None]
        labels = [part.classes.labels for part in parts if part.classes is not None]
        classes = dataclasses.replace(whole.classes, rows=np.concatenate(rows), labels=np.concatenate(labels))
    matches = whole.matches
    if matches is not None:
        every = [(part.first_image, part.matches) for part in parts if part.matches is not None]
        assert all(np.array_equal(each.images_per_text, matches.images_per_text) for _, each in every)
        images, texts = (
            np.concatenate(arrays) for arrays in zip(*((f + e.images, e.texts) for f, e in every), strict=True)
        )
        matches = Matches(images, texts, matches.images_per_text)
    width = max(part.ids.shape[1] for part in parts)
    return dataclasses.replace(
        whole,
        pixels=np.concatenate([part.pixels for part in parts]),
        ids=np.concatenate([np.pad(part.ids, ((0, 0), (0, width - part.ids.shape[1]))) for part in parts]),
        texts=[text for part in parts for text in part.texts],
        keys=[key for part in parts for key in part.keys],
        kept=None if whole.kept is None else np.concatenate([part.kept for part in parts if part.kept is not None]),
        matches=matches,
        classes=classes,
        replaced=tuple(each for part in parts for each in part.replaced),
    )


def assert_same(one: Any, other: Any) -> None:
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, field.name
            assert np.array_equal(a, b), field.name
        elif dataclasses.is_dataclass(a):
            assert_same(a, b)
        else:
            assert a == b, field.name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_the_number_of_workers_changes_no_bit(root: Path) -> None:
    streams = [list(Loader(mixed(root, workers=n), toy.tokenizer()).stream(47, 54)) for n in (0, 1, 3)]
    assert [batch.step for batch in streams[0]] == list(range(47, 54))
    assert [batch.pixels.shape[1] for batch in streams[0]] == [8, 8, 8, 16, 16, 16, 16]
    assert any(batch.replaced for batch in streams[0])
    for several in streams[1:]:
        for one, other in zip(streams[0], several, strict=True):
            assert_same(one, other)


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.slow
def test_the_shares_of_several_processes_are_the_batch_of_one(root: Path, processes: int) -> None:
    one = Loader(mixed(root), toy.tokenizer())
    several = [Loader(mixed(root), toy.tokenizer(), rank=rank, processes=processes) for rank in range(processes)]
    replaced = 0
    for step in range(12):
        parts = [loader.batch(step) for loader in several]
        assert all(len(part.texts) > 0 for part in parts)
        assert_same(joined(parts), one.batch(step))
        replaced += len(parts[0].replaced)
    assert replaced  # a broken image of a name did come up, and the others knew


def test_pairs_need_no_targets_and_stay_pairs_on_several_processes(root: Path) -> None:
    only = recipe(root, CAPTIONED)
    whole = Loader(only, toy.tokenizer()).batch(4)
    parts = [Loader(only, toy.tokenizer(), rank=rank, processes=4).batch(4) for rank in range(4)]
    assert [len(part.pixels) for part in parts] == [2, 2, 1, 1]
    assert_same(joined(parts), whole)
    assert whole.matches is None
    assert (whole.total_images, whole.total_texts) == (6, 6)
    assert [s.split()[0] for s in whole.texts] == [colour_of(pixels) for pixels in whole.pixels]


def test_a_batch_depends_on_step_and_seed_alone(root: Path) -> None:
    one, other = Loader(mixed(root), toy.tokenizer()), Loader(mixed(root), toy.tokenizer())
    other.batch(3)
    assert_same(one.batch(7), other.batch(7))
    assert not np.array_equal(one.batch(8).pixels, one.batch(7).pixels)
    assert not np.array_equal(Loader(mixed(root, seed=2), toy.tokenizer()).batch(7).pixels, one.batch(7).pixels)


def test_targets_say_which_text_describes_which_image(root: Path) -> None:
    batch = Loader(recipe(root, {**NAMED, "broader": BROADER}, CAPTIONED), toy.tokenizer()).batch(0)
    assert batch.matches is not None
    assert np.array_equal(matrix(batch).sum(0), batch.matches.images_per_text)
    for row, pixels in enumerate(batch.pixels):
        colour, named = colour_of(pixels), "names" in batch.keys[row]
        wanted = [
            ("warm" in s and colour in ("red", "white")) or f"a photo of a {colour}" in s
            if named
            else s.split()[0] == colour and s.split()[2] == str(int(batch.keys[row][-3:]))
            for s in batch.texts
        ]
        assert matrix(batch)[row].tolist() == wanted
    assert sum("warm" in text for text in batch.texts) == 1  # images of one word share its text


def test_classes_have_a_text_each_the_one_of_the_batch(root: Path) -> None:
    with_classes = recipe(root, NAMED, CAPTIONED, objective={"classes": 0.5})
    batch = Loader(with_classes, toy.tokenizer()).batch(1)
    assert batch.classes is not None
    assert batch.classes.total == len(batch.classes.rows) == 10
    assert len(batch.classes.texts) == len(batch.classes.ids) == len(COLOURS)
    for row, label in zip(batch.classes.rows, batch.classes.labels, strict=True):
        assert colour_of(batch.pixels[row]) in batch.classes.texts[label]
        assert batch.classes.texts[label] in batch.texts
    assert Loader(recipe(root, NAMED), toy.tokenizer()).batch(1).classes is None
    unmarked = recipe(root, {**NAMED, "classes": False}, objective={"classes": 0.5})
    assert Loader(unmarked, toy.tokenizer()).batch(1).classes is None


def test_ids_are_the_texts_cut_to_the_context_with_their_end(root: Path) -> None:
    tokenizer = toy.tokenizer()
    batch = Loader(recipe(root, CAPTIONED), tokenizer).batch(0)
    assert batch.ids.dtype == np.int32
    assert np.array_equal(batch.ids, tokenizer(batch.texts, 16, truncate=True))
    assert (batch.ids == tokenizer.end_id).any(1).all()


def test_patches_are_kept_by_slot(root: Path) -> None:
    batch = Loader(recipe(root, CAPTIONED, patch_dropout=0.5), toy.tokenizer()).batch(0)
    assert batch.kept is not None
    assert batch.kept.shape == (6, 8)  # of 16
    assert (np.diff(batch.kept, axis=1) > 0).all()
    assert batch.kept.max() < 16
    assert len({tuple(row) for row in batch.kept.tolist()}) == 6


def test_an_epoch_has_every_sample_once_but_for_the_broken_and_their_places(root: Path) -> None:
    loader = Loader(recipe(root, {**NAMED, "per_batch": 8}), toy.tokenizer())
    orders = []
    for epoch in range(3):
        batches = [loader.batch(step) for step in range(5 * epoch, 5 * epoch + 5)]
        broken = [key for batch in batches for key, _ in batch.replaced]
        keys = [key for batch in batches for key in batch.keys]
        assert "names.parquet#3" in broken
        assert len(keys) == 40
        assert len(set(keys)) == 39  # one takes the place of #3
        orders.append(keys)
    assert orders[0] != orders[1] != orders[2]


def test_a_broken_sample_is_named_with_its_reason_and_replaced(root: Path) -> None:
    loader = Loader(mixed(root), toy.tokenizer())
    broken = {broken for step in range(10) for broken in loader.batch(step).replaced}
    assert {key for key, _ in broken} == {"names.parquet#3", "captions.tar/017"}
    reasons = dict(broken)
    assert re.match("not an? image", reasons["names.parquet#3"])
    assert "truncated" in reasons["captions.tar/017"]
    assert all(len(loader.batch(step).pixels) == 21 for step in range(10))


def test_where_all_are_broken_it_says_so_and_ends(tmp_path: Path) -> None:
    write_parquet(tmp_path / "names.parquet", [b"no image"] * len(NAMES))
    for workers in (0, 1):
        stream = Loader(recipe(tmp_path, NAMED, workers=workers), toy.tokenizer()).stream(0, 3)
        with pytest.raises(DataError, match=r"^names\.parquet: tried 141 samples and all are broken.*not an? image"):
            list(stream)


def test_sources_share_a_step_by_weight(root: Path) -> None:
    weighted = [{**NAMED, "per_batch": 0, "weight": 3.0}, {**CAPTIONED, "per_batch": 0, "weight": 1.0}]
    loader = Loader(recipe(root, *weighted, batch_size=10), toy.tokenizer())
    counts = [sum("names" in key for key in loader.batch(step).keys) for step in range(8)]
    assert set(counts) <= {7, 8}
    assert sum(counts) == 60


def test_kept_images_change_no_bit(root: Path) -> None:
    keeping, not_keeping = (Loader(mixed(root, cache_images=keep), toy.tokenizer()) for keep in (True, False))
    for step in (0, 1, 0, 60):
        assert_same(keeping.batch(step), not_keeping.batch(step))


def test_all_texts_hold_what_batches_hold(root: Path) -> None:
    chosen = mixed(root)
    loader = Loader(chosen, toy.tokenizer())
    known = loader.all_texts()
    assert known == texts_of(chosen)
    assert len(known) == len(set(known)) == 2 * (2 * len(COLOURS) + 1) + 80
    # what more.tar says is in captions.tar too
    for step in range(10):
        assert set(loader.batch(step).texts) <= set(known)


@pytest.mark.slow
def test_a_batch_of_many_texts_has_no_matrix_of_targets(root: Path) -> None:
    """3,000 images with two captions each: as a matrix of float32, their targets would take 72 MB in every process."""
    many = {**CAPTIONED, "path": "more.tar", "per_batch": 3000, "captions": "all"}
    write_tar(root / "more.tar")
    loader = Loader(recipe(root, many, cache_images=True), toy.tokenizer())
    loader.batch(0)  # decodes and keeps all images
    tracemalloc.start()
    batch = loader.batch(1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert batch.matches is not None
    assert len(batch.matches.texts) == batch.total_texts == 6000
    assert peak < 20e6


def test_fewer_images_than_processes_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="6 images cannot be shared by 7 processes"):
        Loader(recipe(root, CAPTIONED), toy.tokenizer(), rank=0, processes=7)


def test_the_sources_that_the_documents_show_can_be_read() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "train.md").read_text(encoding="utf-8")
    section = page.split("\n## Data\n")[1].split("\n## ")[0]
    shown = re.findall(r"^```toml\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert len(shown) == 3
    for block in shown:
        sources = tomllib.loads(block)["data"]
        built = recipe(Path("."), *sources, **({"batch_size": 8} if "weight" in sources[0] else {}))
        assert len(built.data) == len(sources)
