"""The memory that batches share on a GPU: who may use it, and when it may be given back."""

import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tandem.engine.torch_batches import Batches  # noqa: E402
from tandem.engine.torch_streams import HostStreams  # noqa: E402


class Counting(HostStreams):
    """Marks are numbers in their order; a wait covers all up to its mark."""

    def __init__(self):
        super().__init__()
        self.marks, self.waited = 0, 0
        self.waited_at_growth: list[int] = []

    def mark(self):
        self.marks += 1
        return self.marks

    def upload(self, host, target, after):
        super().upload(host, target, after)
        return self.mark()

    def wait(self, mark):
        self.waited = max(self.waited, mark)

    def host_memory(self, size):
        self.waited_at_growth.append(self.waited)
        return super().host_memory(size)


def test_memory_is_given_back_when_nobody_reads_it():
    """Two places take turns: the third batch is larger, and grows the place that the first may still be read from."""
    streams, computed = Counting(), []

    def function(x):
        computed.append(streams.mark())
        return x + 1

    rows = np.arange(6, dtype=np.float32)[:, None]
    found = Batches(torch.device("cpu"), streams).run("key", function, [rows[:1], rows[1:2], rows[2:]], 1, 4)
    np.testing.assert_array_equal(found, rows + 1)
    assert len(streams.waited_at_growth) == 3
    assert streams.waited_at_growth[2] > computed[0]


def test_threads_take_turns():
    together = []
    both = threading.Barrier(2)

    def function(x):
        try:
            both.wait(0.2)
            together.append("two threads compute in the same memory")
        except threading.BrokenBarrierError:
            pass  # the other one waits for its turn
        return x + 1

    batches, found = Batches(torch.device("cpu"), HostStreams()), {}
    rows = np.arange(4, dtype=np.float32)[:, None]

    def work(number):
        found[number] = batches.run("key", function, [rows * number], 1, 4)

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == []
    for number in (1, 10):
        np.testing.assert_array_equal(found[number], rows * number + 1)
