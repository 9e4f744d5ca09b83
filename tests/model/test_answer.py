"""Answers as people use them: indexed, pickled, as a table, in a notebook; and models that travel by their source."""

import copy
import io
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import toy

from tandem import engine, plots, weights
from tandem.answer import Answer, Failure, ModelIdentity, Prediction
from tandem.errors import ImageError, TandemError, WeightsError
from tandem.image import Limits
from tandem.model import Model, load
from tandem.plots import page as pages
from tandem.processor import has_bfloat16

LABELS = ("cat", "dog", "<b>odd</b>")
LOGITS = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.5, 0.25, 9.0], [1.0, 0.0, 0.0]], np.float32)


def answer(images: tuple[Any, ...] = (), failures: tuple[Failure, ...] = ()) -> Answer:
    sources = tuple(f"photos/{name}.jpg" for name in "abcd")
    kept = images or tuple(toy.random_image(i) for i in range(4))
    return Answer(ModelIdentity("toy", "f" * 64), LABELS, sources, LOGITS, failures, kept)


def test_rows_by_index_slice_and_loop() -> None:
    whole = answer(failures=(Failure(1, ImageError("x", "no such file", "not_found")),))
    assert len(whole) == len(list(whole)) == 4
    assert [whole[place] for place in range(4)] == [whole[place] for place in range(-4, 0)] == list(whole)
    for place, row in enumerate(whole):
        assert (row.source, row.best) == (whole.sources[place], whole.best[place])
        assert row.probability == pytest.approx(float(whole.probabilities[place].max()))
        assert list(row.probabilities.values()) == pytest.approx(whole.probabilities[place].tolist())
        assert row.logits == dict(zip(LABELS, LOGITS[place].tolist(), strict=True))
    part = whole[1:3]
    assert isinstance(part, Answer)
    assert (part.sources, part.best, part.failures) == (whole.sources[1:3], whole.best[1:3], ())
    assert list(part) == list(whole)[1:3]
    assert part.images == whole.images[1:3]
    assert whole[np.int64(2)].best == "<b>odd</b>"
    for wrong in (4, -5):
        with pytest.raises(IndexError):
            whole[wrong]
    assert isinstance(whole[0], Prediction)


def test_answers_of_batches_are_joined_in_order() -> None:
    whole = answer()
    joined = Answer.join([whole[:1], whole[1:3], whole[3:]])
    assert joined.as_dict() == whole.as_dict()
    assert joined.images == whole.images


def test_labels_that_are_equally_likely_come_in_their_order() -> None:
    even = Answer(ModelIdentity("toy", "f"), LABELS, ("a",), np.array([[0, 1, 1]], np.float32))
    assert [label for label, _ in even.top(3)[0]] == ["dog", "<b>odd</b>", "cat"]
    assert even.best == ["dog"]


def test_an_answer_is_pickled_without_its_model(model: Model) -> None:
    whole = model.classify([toy.random_image(i) for i in range(3)], ["cat", "dog"])
    again = pickle.loads(pickle.dumps(whole))
    assert again.as_dict() == whole.as_dict()
    assert again.model == ModelIdentity(model.name, model.fingerprint)
    for other in (copy.copy(whole), copy.deepcopy(whole)):
        assert other.as_dict() == whole.as_dict()
        assert other.model is model
    other.logits[:] = 0  # of the deep copy
    assert again.as_dict() == whole.as_dict()


def test_failures_are_pickled_too() -> None:
    failed = (Failure(1, ImageError("x", "no such file", "not_found")),)
    again = pickle.loads(pickle.dumps(answer(failures=failed)))
    assert (again.failures[0].source, again.failures[0].error.kind) == ("x", "not_found")


def test_a_table() -> None:
    pandas = pytest.importorskip("pandas")
    frame = answer().to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["best", *LABELS]
    assert list(frame.index) == list(answer().sources)
    assert list(frame["best"]) == answer().best
    np.testing.assert_allclose(frame[list(LABELS)].to_numpy(), answer().probabilities)


def test_what_a_notebook_shows(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    toy.random_image(1).save(photo)
    kept = (str(photo), "https://example.org/never-fetched.jpg", str(tmp_path / "gone.jpg"), None)
    failed = (Failure(9, ImageError("x", "no such file", "not_found")),)
    shown = answer(kept, failed)._repr_html_()
    assert shown.count("data:image/jpeg;base64,") == 1
    assert "&lt;b&gt;odd&lt;/b&gt;" in shown
    assert "<b>odd" not in shown
    assert "4 images, 3 labels; 1 skipped (see .failures)" in shown
    assert shown.count("<tr>") == 4
    assert answer()._repr_html_().count("data:image/jpeg;base64,") == 4
    odd = Answer(
        ModelIdentity("toy", "f"), LABELS, ('"<i>.png',), LOGITS[:1], images=(toy.random_image(1),)
    )._repr_html_()
    assert 'alt="&quot;&lt;i&gt;.png"' in odd
    assert "<div>&quot;&lt;i&gt;.png</div>" in odd
    # An answer of a server's has no images at all.
    assert "<table>" in Answer(ModelIdentity("toy", "f"), LABELS, ("a",), LOGITS[:1])._repr_html_()


def test_a_plot_without_a_path_is_shown_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    display = types.SimpleNamespace(Image=lambda **options: options, display=shown.append)
    ipython = types.SimpleNamespace(version_info=(9, 0), get_ipython=lambda: None)  # matplotlib looks at them as well
    monkeypatch.setitem(sys.modules, "IPython", ipython)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "IPython.display", display)  # type: ignore[arg-type]
    monkeypatch.setattr(pages, "in_notebook", lambda: True)
    assert answer().plot() is None
    assert Image.open(io.BytesIO(shown[0]["data"])).format == "PNG"


@pytest.mark.slow
def test_a_plot_without_a_path_opens_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    from matplotlib import pyplot

    with pytest.raises(TandemError, match="give a path"):
        answer().plot()
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "TkAgg")
    pyplot.close("all")  # of tests before
    waited: list[int] = []
    monkeypatch.setattr(pyplot, "show", lambda: waited.append(len(pyplot.get_fignums())))
    assert plots.draw_contact_sheet([plots.Cell(toy.random_image(1), "a", "b")], None, title="x") is None
    assert waited == [1]
    pyplot.close("all")


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> Model:
    checkpoint = toy.checkpoint()
    return Model(checkpoint, engine.build(checkpoint.config, checkpoint.tensors))


def test_a_model_is_pickled_by_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = weights.write(toy.checkpoint(), tmp_path / "toy")
    monkeypatch.chdir(tmp_path)
    precision = "bfloat16" if has_bfloat16() else "float32"  # of which no other is left where bfloat16 is emulated
    first = load("toy", orient=False, precision=precision, limits=Limits(max_pixels=12_345))
    content = pickle.dumps(first)
    assert len(content) < 2000
    monkeypatch.chdir("/")
    again = pickle.loads(content)
    assert (again.fingerprint, again.orient, again.limits) == (first.fingerprint, False, Limits(max_pixels=12_345))
    assert (again.engine.name, again.engine.precision) == (first.engine.name, precision)
    images = [toy.random_image(1)]
    np.testing.assert_array_equal(again.embed_images(images), first.embed_images(images))

    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="cannot reload the pickled model"):
        pickle.loads(content)
    weights.write(toy.checkpoint(seed=5), folder, overwrite=True)
    with pytest.raises(WeightsError, match="has changed"):
        pickle.loads(content)


def test_a_copied_model_shares_its_weights(model: Model) -> None:
    for other in (copy.copy(model), copy.deepcopy(model)):
        assert other is not model
        assert other.engine is model.engine
        assert other.tensors is model.tensors


def test_an_engine_of_its_own_says_why_not(model: Model) -> None:
    own = copy.copy(model)
    own.engine = types.SimpleNamespace(name="mine")  # type: ignore[assignment]
    with pytest.raises(TandemError, match=r"with a custom engine \(mine\) cannot be pickled"):
        pickle.dumps(own)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_many_images_show_progress_in_a_terminal(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [toy.random_image(i % 3) for i in range(70)]
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("tandem.progress._DELAY_S", 0)
    model.embed_images(images)
    assert "embedding: 100%" in stream.getvalue()
    model.classify(images, ["cat", "dog"])
    assert "classifying: 100%" in stream.getvalue()
    before = stream.getvalue()
    model.embed_images(images, progress=False)
    model.classify(images, ["cat", "dog"], progress=False)
    model.embed_images(images[:3])
    model.classify(images[0], ["cat", "dog"])
    assert stream.getvalue() == before
    with pytest.raises(ImageError):
        model.embed_images([*images, b"bad"])


def test_names_that_are_not_utf8_are_spelled_out_everywhere(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    failures = (Failure(1, ImageError("bad\udcfe.jpg", "no such file", "not_found")),)
    shown = Answer(
        ModelIdentity("toy", "f" * 64), LABELS, ("odd\udcff.jpg",), LOGITS[:1], failures, (toy.random_image(0),)
    )
    for text in (shown.to_json(), shown._repr_html_(), repr(shown)):
        text.encode()  # can be written
        assert "xff.jpg" in text
    assert shown.as_dict()["results"][0]["image"] == "odd\\xff.jpg"
    assert shown.as_dict()["failures"][0]["image"] == "bad\\xfe.jpg"
    assert shown.sources == ("odd\udcff.jpg",)  # the file's name
    assert shown.plot(tmp_path / "drawing.png") == tmp_path / "drawing.png"
