"""What a GPU does beside the processor: copies on a stream of their own, and launches that are recorded once.

This is all of CUDA that the torch engine knows. `HostStreams` offers the same on a processor, where a copy is done when
it returns and a recording is run again: what is built on this seam is computed there bit by bit as it stands.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

Mark: TypeAlias = Any  # a moment in the work of a stream, as its device knows it


class Streams(Protocol):
    """Two streams of one device: the one that computes, which is the current one, and one for copies to it."""

    device: torch.device

    def here(self) -> AbstractContextManager[None]:
        """A context in which the device is the current one."""
        ...

    def host_memory(self, size: int) -> Tensor:
        """uint8 [size] on the host, from which copies need not wait for the processor."""
        ...

    def upload(self, host: Tensor, target: Tensor, after: Mark | None) -> Mark:
        """Copy to the device on the copies' stream, which waits for `after`; returns before it is done."""
        ...

    def download(self, there: Tensor) -> tuple[Tensor, Mark]:
        """Memory of the host, and when it has what `there` has, which was computed before; returns before it has."""
        ...

    def mark(self) -> Mark:
        """The moment up to which the computing stream has work now."""
        ...

    def compute_after(self, mark: Mark) -> None:
        """Let the computing stream wait for a moment; returns at once."""
        ...

    def wait(self, mark: Mark) -> None:
        """Wait, here, for a moment; the processor is free meanwhile."""
        ...

    def record(self, function: Callable[[Tensor], Tensor], given: Tensor) -> Callable[[], Tensor]:
        """Record function(given), which has run before: what is returned does it again, with what `given` then holds.

        Its result is overwritten by the next call of this or another recording. Raises `RuntimeError` where the device
        cannot record it.
        """
        ...


class CudaStreams:
    """Streams, events, pinned memory and CUDA graphs."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        with torch.cuda.device(device):
            self._copies, self._recording = torch.cuda.Stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            # Graphs share their memory: they run one after another, and results are copied before the next one runs.
            self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def here(self) -> Iterator[None]:
        with torch.cuda.device(self.device):
            yield

    def host_memory(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def upload(self, host: Tensor, target: Tensor, after: Mark | None) -> Mark:
        with torch.cuda.stream(self._copies):
            if after is not None:
                self._copies.wait_event(after)
            target.copy_(host, non_blocking=True)
            return self.mark()

    def download(self, there: Tensor) -> tuple[Tensor, Mark]:
        # On the computing stream, behind what computes it and before what computes the next batch
        host = torch.empty(there.shape, dtype=there.dtype, pin_memory=True)
        host.copy_(there, non_blocking=True)
        return host, self.mark()

    def mark(self) -> Mark:
        # Who waits sleeps, and leaves the core to those who decode
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def compute_after(self, mark: Mark) -> None:
        torch.cuda.current_stream().wait_event(mark)

    def wait(self, mark: Mark) -> None:
        mark.synchronize()

    def record(self, function: Callable[[Tensor], Tensor], given: Tensor) -> Callable[[], Tensor]:
        graph, computing = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        # On a stream of this device: torch's own for recordings is of the device that recorded first. Other threads may
        # use the device meanwhile: their calls are none of the recording's.
        try:
            with torch.cuda.graph(graph, self._pool, self._recording, capture_error_mode="thread_local"):
                result = function(given)
        except RuntimeError:
            torch.cuda.set_stream(computing)  # a recording that fails may leave its own behind
            raise

        def again() -> Tensor:
            graph.replay()
            return result

        return again


class HostStreams:
    """The same on a processor, in order and at once."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")

    @contextmanager
    def here(self) -> Iterator[None]:
        yield

    def host_memory(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8)

    def upload(self, host: Tensor, target: Tensor, after: Mark | None) -> Mark:
        target.copy_(host)
        return object()

    def download(self, there: Tensor) -> tuple[Tensor, Mark]:
        return there.clone(), self.mark()

    def mark(self) -> Mark:
        return object()

    def compute_after(self, mark: Mark) -> None:
        return

    def wait(self, mark: Mark) -> None:
        return

    def record(self, function: Callable[[Tensor], Tensor], given: Tensor) -> Callable[[], Tensor]:
        result = function(given)

        def again() -> Tensor:
            return result.copy_(function(given))

        return again
