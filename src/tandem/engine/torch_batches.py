"""Arrays through a function of torch, batch after batch.

On a GPU: the copy of the next batch runs beside the computation of this one, from memory that the host cannot page out;
batches are padded to a few fixed sizes, so that their launches are recorded once and then repeated as one; and the host
waits only when it is asked for results, which may be after it has begun the next batches. Knows batches, memory and the
order of things; neither models nor what is computed.

Shapes: n rows of all batches, b rows of one, d numbers of a row's result.
"""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tandem.engine.torch_device import to_device
from tandem.engine.torch_streams import Mark, Streams
from tandem.errors import EngineError

Function = Callable[[Tensor], Tensor]  # [b ...] on the device -> [b d], row by row

# Each keeps a result and its launches: a few megabytes. Sizes are powers of two, so few are in use.
RECORDINGS = 64


def padded_size(rows: int, most: int) -> int:
    """The size that a batch of so many rows is padded to: a power of two, or `most`."""
    return min(1 << (rows - 1).bit_length(), most)


class Batches:
    """Runs functions over batches; calls from several threads take turns on a GPU."""

    def __init__(self, device: torch.device, streams: Streams | None) -> None:
        """streams: None computes each batch as it is, at once: on processors, which gain nothing from waiting."""
        self.device, self.streams = device, streams
        self._lock = threading.Lock()
        self._slots = [_Slot(streams), _Slot(streams)] if streams else []
        self._recordings: OrderedDict[Hashable, Callable[[], Tensor] | None] = OrderedDict()
        self._given: dict[Hashable, Tensor] = {}
        self._room = 1 << 30  # rows that the memory was not too small for

    def run(
        self, key: Hashable, function: Function, batches: Iterable[NDArray[np.generic]], width: int, most: int
    ) -> NDArray[np.float32]:
        """The results of all batches, one after another: float32 [n d].

        key: of the function, for its recordings. Batches have at most `most` rows. width: d.
        Raises `EngineError` where the memory of the device is too small even for one row.
        """
        return self.begin(key, function, batches, width, most)()

    def begin(
        self, key: Hashable, function: Function, batches: Iterable[NDArray[np.generic]], width: int, most: int
    ) -> Callable[[], NDArray[np.float32]]:
        """`run`, in two steps: what this returns waits for the results. The device computes meanwhile, where it can."""
        if self.streams is None:
            found = [function(to_device(batch, self.device)).cpu().numpy() for batch in batches]
            whole = np.concatenate(found) if found else np.empty((0, width), np.float32)
            return lambda: whole
        with self._lock, self.streams.here():
            results = [self._one(key, function, batch, most) for batch in batches]
            if not results:
                return lambda: np.empty((0, width), np.float32)
            host, there = self.streams.download(torch.cat(results))
        return partial(self._finish, host, there)

    def _finish(self, host: Tensor, there: Mark) -> NDArray[np.float32]:
        assert self.streams is not None
        with self.streams.here():
            self.streams.wait(there)
        return host.numpy().copy()  # memory that is pinned is scarce

    def forget(self) -> None:
        """Drop what was recorded, and the memory that it keeps."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        self._recordings.clear()
        self._given.clear()

    def _one(self, key: Hashable, function: Function, batch: NDArray[np.generic], most: int) -> Tensor:
        """The results [b d] of a batch, on the device; it is cut where its memory is short."""
        rows = len(batch)
        if rows <= self._room:
            try:
                return self._at_once(key, function, batch, most)
            except torch.OutOfMemoryError:
                self._drop()
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
            if rows == 1:
                raise EngineError(
                    f"{self.device}: its memory is too small for one image or text; free some, or take a smaller model"
                )
            self._room = -(-rows // 2)
        parts = np.array_split(batch, -(-rows // self._room))
        return torch.cat([self._one(key, function, part, most) for part in parts])

    def _at_once(self, key: Hashable, function: Function, batch: NDArray[np.generic], most: int) -> Tensor:
        assert self.streams is not None
        slot = self._slots[0]
        self._slots.reverse()
        given = slot.upload(batch, padded_size(len(batch), most))
        try:
            return self._recorded((key, given.dtype, tuple(given.shape)), function, given)[: len(batch)].clone()
        finally:  # also what was begun and then failed has read it
            slot.consumed = self.streams.mark()

    def _recorded(self, key: Hashable, function: Function, given: Tensor) -> Tensor:
        """function(given): the first time as it is, which also warms up; from the second on by its recording."""
        assert self.streams is not None
        if key not in self._recordings:
            self._recordings[key] = None
            while len(self._recordings) > RECORDINGS:
                oldest, _ = self._recordings.popitem(last=False)
                self._given.pop(oldest, None)
            return function(given)
        self._recordings.move_to_end(key)
        again = self._recordings[key]
        if again is None:
            self._given[key] = given.clone()
            again = self._recordings[key] = self._record(function, self._given[key])
        self._given[key].copy_(given)
        return again()

    def _record(self, function: Function, given: Tensor) -> Callable[[], Tensor]:
        assert self.streams is not None
        try:
            return self.streams.record(function, given)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            what = str(error).splitlines()[0]
            warnings.warn(f"{self.device}: kernels are launched one by one, which is slower ({what})", stacklevel=2)
            return partial(function, given)


class _Slot:
    """Memory for one batch, on the host and on the device, and how far its last use has come."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._host = torch.empty(0, dtype=torch.uint8)
        self._there = torch.empty(0, dtype=torch.uint8, device=streams.device)
        self._uploaded: Mark | None = None
        self.consumed: Mark | None = None

    def upload(self, batch: NDArray[np.generic], size: int) -> Tensor:
        """The batch on the device, ready for the computing stream: [size ...].

        Rows past its end: of token ids the last one again, for others would not be ids; of pixels whatever is there.
        """
        rows = len(batch) if batch.dtype.kind == "f" or batch.dtype == np.uint8 else size
        dtype = torch.from_numpy(np.empty(0, batch.dtype)).dtype
        shape = (size, *batch.shape[1:])
        needed = int(np.prod(shape)) * batch.dtype.itemsize
        if needed > len(self._host):
            self._grow(needed)
        if self._uploaded is not None:
            self._streams.wait(self._uploaded)  # until then the copy reads what is now overwritten
        host, there = (memory[:needed].view(dtype).view(shape)[:rows] for memory in (self._host, self._there))
        np.copyto(host[: len(batch)].numpy(), batch)
        host[len(batch) :] = host[len(batch) - 1]
        self._uploaded = self._streams.upload(host, there, self.consumed)
        self._streams.compute_after(self._uploaded)
        return self._there[:needed].view(dtype).view(shape)

    def _grow(self, needed: int) -> None:
        if self.consumed is not None:
            self._streams.wait(self.consumed)  # nobody may read what is given back
        self._host = self._there = torch.empty(0, dtype=torch.uint8)
        self._host = self._streams.host_memory(needed)
        self._there = torch.zeros(needed, dtype=torch.uint8, device=self._streams.device)
        self._uploaded, self.consumed = None, self._streams.mark()
