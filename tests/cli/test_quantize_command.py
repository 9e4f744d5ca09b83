"""`tandem quantize`."""

import pytest
from support.commands import one_line

from tandem.model import load


@pytest.mark.slow
def test_a_folder_is_written_that_loads_like_any_other(tandem, tmp_path):
    target = tmp_path / "small"
    ran = tandem("quantize", "tandem-mini", target, "--weights-only", "--no-search", "--json")
    assert ran.code == 0, ran.err
    model, source = load(target), load()
    assert model.fingerprint == ran.json["model"]["fingerprint"] != source.fingerprint
    assert ran.json["source"]["fingerprint"] == source.fingerprint == model.config.quantization.source_fingerprint
    assert ran.json["bytes"]["quantized"] < 0.55 * ran.json["bytes"]["source"]
    texts = ["a dog on the beach", "two children"]
    assert (model.embed_texts(texts) * source.embed_texts(texts)).sum(1).min() > 0.999
    card = (target / "README.md").read_text()
    assert "## Quantisation" in card
    assert f"{ran.json['agreement']['top1']:.1%}" in card
    again = tandem("quantize", target, tmp_path / "other", "--weights-only")
    assert "quantised already: quantise tandem-mini, which it was made from" in one_line(again)


def test_too_few_images_and_texts_are_refused(tandem, tmp_path, photos, model_folder):
    few = tandem("quantize", model_folder, tmp_path / "t", "--weights-only", "--images", tmp_path / "photos")
    assert "expected at least 30 different images" in one_line(few)
    lines = tmp_path / "texts.txt"
    lines.write_text("one\ntwo\n")
    few = tandem("quantize", model_folder, tmp_path / "t", "--weights-only", "--texts", lines)
    assert "expected at least 30 different texts, one a line, got 2" in one_line(few)
    taken = tandem("quantize", model_folder, tmp_path / "photos", "--weights-only")
    assert "the folder is not empty" in one_line(taken)
