"""Peers in processes of their own: a small one of NumPy, driven through the real worker and pipes."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from comparison.measuring import Scale, in_turn
from comparison.rows import ROWS
from comparison.sides import PEERS, PeerError, Process

PEER = """
import sys, time
PACKAGES = ("numpy",)

def prepare(model, scratch, precision, photos, texts):
    open(f"{scratch}/prepared", "w").write(f"{model} {precision} {len(photos)} {len(texts)}")

class Peer:
    def __init__(self, model, scratch, precision, threads):
        print("libraries print what they like")  # not among the answers
        if model == "broken":
            raise OSError("no such weights\\nand a second line")
    def image_input(self, pixels):
        return pixels.astype("float32")
    def encode_images(self, ready):
        return ready.reshape(len(ready), -1)[:, :4] + 1
    def encode_texts(self, texts):
        if texts == ["end"]:
            sys.exit(3)
        if texts == ["sleep"]:
            time.sleep(60)
        import numpy
        return numpy.array([[len(text), 1.0] for text in texts])
    def embed_files(self, paths):
        import numpy
        return numpy.ones((len(paths), 2))
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Path]]:
    folder = tmp_path_factory.mktemp("peer")
    (folder / "peer.py").write_text(PEER)
    with Process([sys.executable, str(PEERS / "worker.py"), str(folder / "peer.py")], folder / "peer.log") as process:
        process.ask("open", model="m", scratch=str(folder), precision="float32", threads=1)
        yield process, folder


def test_preparing_says_which_versions_are_compared(opened):
    process, folder = opened
    told = {"model": "m", "scratch": str(folder), "precision": "int8", "photos": ["a.jpg"], "texts": ["a", "b"]}
    assert process.ask("prepare", **told) == {"versions": {"numpy": np.__version__}}
    assert (folder / "prepared").read_text() == "m int8 1 2"


def test_images_go_in_batches_and_vectors_come_back_in_a_file(opened):
    process, folder = opened
    pixels = np.arange(5 * 2 * 2 * 3, dtype=np.uint8).reshape(5, 2, 2, 3)
    np.save(folder / "pixels.npy", pixels)
    out = folder / "vectors.npy"
    answer = process.ask("images", pixels=str(folder / "pixels.npy"), count=5, batch=2, out=str(out))
    assert answer["seconds"] > 0
    np.testing.assert_array_equal(np.load(out), pixels.reshape(5, -1)[:, :4].astype(np.float32) + 1)


def test_files_end_in_a_file_within_the_time(opened):
    process, folder = opened
    process.ask("files", paths=["a", "b", "c"], out=str(folder / "embedded.npy"))
    assert np.load(folder / "embedded.npy").shape == (3, 2)


def test_what_fails_is_said_in_a_line_and_the_next_request_is_answered(opened):
    process, folder = opened
    with pytest.raises(PeerError, match=r"OSError: no such weights \(log: .*peer\.log"):
        process.ask("open", model="broken", scratch=str(folder), precision="float32", threads=1)
    process.ask("open", model="m", scratch=str(folder), precision="float32", threads=1)
    assert process.ask("texts", texts=["a"])["seconds"] >= 0
    assert "libraries print what they like" in (folder / "peer.log").read_text()


@pytest.mark.parametrize(("text", "said"), [("end", "ended with exit code 3"), ("sleep", "no answer within 0.2 s")])
def test_a_peer_that_ends_or_hangs_is_an_error(opened, text, said):
    _, folder = opened
    with Process(
        [sys.executable, "-S", str(PEERS / "worker.py"), str(folder / "peer.py")], folder / "ends.log"
    ) as peer:
        peer.ask("open", model="m", scratch=str(folder), precision="float32", threads=1)
        with pytest.raises(PeerError, match=said):
            peer.ask("texts", texts=[text], within_s=0.2 if text == "sleep" else 60)


def test_sides_take_turns_forwards_and_backwards_after_a_round_that_does_not_count():
    called: list[str] = []

    def work(name: str) -> float:
        called.append(name)
        return float(len(called))

    row = ROWS["images"]
    values = in_turn({name: lambda n=name: work(n) for name in "ab"}, row, Scale(rounds=2))
    assert "".join(called) == "ab" + "ba" + "ab"
    assert values == {"a": [4.0, 5.0], "b": [3.0, 6.0]}
