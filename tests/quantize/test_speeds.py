"""Images and texts a second, on a clock that only what is timed moves."""

import pytest
from support import toy

from tandem.quantize import speeds as module
from tandem.quantize.samples import Part
from tandem.quantize.speeds import speeds


class Clock:
    now = 100.0

    def perf_counter(self):
        return self.now


class Timed:
    """A model whose rounds take so many seconds for images, and so many for texts."""

    def __init__(self, name, clock, images, texts, log):
        self.name, self.clock, self.log = name, clock, log
        self.seconds = {"images": list(images), "texts": list(texts)}
        self.engine, self.config, self.tokenizer = self, toy.config(), toy.tokenizer()

    def _takes(self, what, count):
        self.clock.now += self.seconds[what].pop(0)
        self.log.append((self.name, what, count))

    def encode_images(self, pixels):
        self._takes("images", len(pixels))

    def encode_texts(self, ids):
        self._takes("texts", len(ids))


def test_rates_are_medians_of_rounds_by_turns(monkeypatch):
    clock, log = Clock(), []
    monkeypatch.setattr(module, "time", clock)
    models = {
        "source": Timed("source", clock, (4, 2, 90), (16, 8, 1), log),
        "made": Timed("made", clock, (1, 1, 50), (0.5, 70, 2), log),
    }
    found = speeds(models, Part(toy_pixels(20), tuple("cat" for _ in range(100))))
    assert found == {"source": (8 / 4, 64 / 8), "made": (8 / 1, 64 / 2)}
    assert log == 3 * [(name, *rest) for name in models for rest in (("images", 8), ("texts", 64))]


def test_rates_of_few_are_of_what_was_encoded(monkeypatch):
    clock, log = Clock(), []
    monkeypatch.setattr(module, "time", clock)
    found = speeds({"one": Timed("one", clock, (2, 2, 2), (4, 4, 4), log)}, Part(toy_pixels(3), ("cat", "dog")))
    assert found == {"one": pytest.approx((1.5, 0.5))}


def toy_pixels(count):
    return [None] * count
