"""Worker processes come and go with the training process, and say one line when they die."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from support import toy
from support.processes import TRAINING, Child
from support.training_toys import CAPTIONED, recipe, write_tar

from tandem.errors import DataError
from tandem.train.data.loader import Loader

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("training"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_tar(tmp_path / "captions.tar")
    return tmp_path


def children(pid: int | None = None) -> list[int]:
    """The processes that a process has, but for those that have ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (folder / "stat").read_text().rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if int(parent) == (pid or os.getpid()) and state != "Z":
            found.append(int(name.split()[0]))
    return found


def wait_for(condition: Callable[[], bool], timeout_s: float = 20) -> bool:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_stream_that_is_closed_leaves_no_worker(root: Path) -> None:
    before = set(children())
    handler = signal.getsignal(signal.SIGCHLD)
    stream = Loader(recipe(root, CAPTIONED, workers=2), toy.tokenizer()).stream(0, 1000)
    next(stream)
    assert len(set(children()) - before) == 2
    assert signal.getsignal(signal.SIGCHLD) == handler  # torch's would raise wherever the training process is
    stream.close()  # type: ignore[attr-defined]
    assert wait_for(lambda: set(children()) <= before)


def test_a_stream_that_has_ended_leaves_no_worker(root: Path) -> None:
    before = set(children())
    assert len(list(Loader(recipe(root, CAPTIONED, workers=2), toy.tokenizer()).stream(0, 5))) == 5
    assert wait_for(lambda: set(children()) <= before)


def test_a_worker_that_dies_is_one_clear_line(root: Path) -> None:
    before = set(children())
    stream = Loader(recipe(root, CAPTIONED, workers=1), toy.tokenizer()).stream(0, 100_000)
    next(stream)
    (worker,) = set(children()) - before
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(
        DataError, match=r"a process that prepares batches died with signal 9: .*too little memory"
    ) as error:
        for _ in stream:
            pass
    assert "\n" not in str(error.value)


def test_workers_leave_it_to_the_training_process_when_to_stop(root: Path) -> None:
    """Ctrl-C and schedulers reach the whole group; the training process still saves, and may take further batches."""
    before = set(children())
    stream = Loader(recipe(root, CAPTIONED, workers=1), toy.tokenizer()).stream(0, 200)
    next(stream)
    (worker,) = set(children()) - before
    os.kill(worker, signal.SIGINT)
    os.kill(worker, signal.SIGTERM)
    assert len(list(stream)) == 199
    assert wait_for(lambda: set(children()) <= before)


STREAM = """
import sys, time
from pathlib import Path
from support import toy
from support.processes import TRAINING, Child
from support.training_toys import CAPTIONED, recipe
from tandem.train.data.loader import Loader
stream = Loader(recipe(Path({root!r}), CAPTIONED, workers=2), toy.tokenizer()).stream(0, 10**9)
next(stream)
print("begun", flush=True)
for batch in stream:
    {between}
"""


def test_a_training_process_that_ends_anyhow_leaves_no_worker(root: Path) -> None:
    """Killed, or interrupted while it waits for a batch (in torch's loader) or is busy with one (outside of it)."""
    Loader(recipe(root, CAPTIONED), toy.tokenizer())  # makes the index
    ends = [(signal.SIGKILL, "time.sleep(1)"), (signal.SIGINT, "time.sleep(1)"), (signal.SIGINT, "pass")]
    with ExitStack() as stack:
        begun = [
            stack.enter_context(Child(TRAINING, STREAM.format(root=str(root), between=between))) for _, between in ends
        ]
        for process, (number, _) in zip(begun, ends, strict=True):
            assert process.stdout.readline() == "begun\n"
            workers = children(process.pid)
            assert len(workers) == 2
            process.send_signal(number)
            process.wait(240)
            assert wait_for(lambda workers=workers: not any(map(alive, workers)))  # type: ignore[misc]


def test_steps_made_by_spawned_workers_are_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent to a worker that does not begin as a copy of its parent: on systems other than Linux."""
    chosen = recipe(root, CAPTIONED, workers=1)
    expected = [batch.pixels for batch in Loader(chosen, toy.tokenizer()).stream(0, 2)]
    monkeypatch.setattr("tandem.train.data.workers.START_METHOD", "spawn")
    found = [batch.pixels for batch in Loader(chosen, toy.tokenizer()).stream(0, 2)]
    assert all((a == b).all() for a, b in zip(expected, found, strict=True))


# --- what is not public in torch -------------------------------------------------------------------------------------


def test_the_private_parts_of_torch_that_training_uses_are_where_they_were() -> None:
    """Each has a fallback or a test of its own; where this fails, torch has moved one: look at the module it names."""
    from torch.utils.data import dataloader

    missing = [
        module
        for owner, name, module in (
            (dataloader._MultiProcessingDataLoaderIter, "_shutdown_workers", "data/workers.py, _stop"),
            (torch, "_foreach_lerp_", "step/ema.py, ModelEma.update"),
            (torch._dynamo.config, "recompile_limit", "parallel/wrapping.py, wrap (cache_size_limit before torch 2.6)"),
            (torch.nn.modules.batchnorm, "_BatchNorm", "model/initial_weights.py, set_training"),
        )
        if not hasattr(owner, name)
    ]
    assert not missing, f"torch {torch.__version__} has moved what is used in {missing}"


def test_workers_end_even_where_torchs_own_way_is_gone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch without the private method: its iterator cannot end its workers, and they end all the same."""
    from torch.utils.data import dataloader

    before = set(children())
    # Torch keeps the workers' ids by the iterator's address until that method is called. What is left there would make
    # a later iterator at the same address fail, in whichever test that is.
    monkeypatch.setattr(dataloader._utils.signal_handling, "_set_worker_pids", lambda address, pids: None)
    stream = Loader(recipe(root, CAPTIONED, workers=2), toy.tokenizer()).stream(0, 1000)
    next(stream)
    monkeypatch.delattr(dataloader._MultiProcessingDataLoaderIter, "_shutdown_workers")
    monkeypatch.delattr(dataloader._MultiProcessingDataLoaderIter, "__del__")
    stream.close()  # type: ignore[attr-defined]
    assert wait_for(lambda: set(children()) <= before)
