"""A queue that is fair to requests: each in turn gives one item, so that a large one delays a small one by little.

There are three lanes: small requests, large ones, and what works in the background. Knows items and whose they are; no
threads and no clock.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Literal, TypeVar

_Item = TypeVar("_Item")
Lane = Literal["small", "large", "background"]
SMALL = 4  # items of a request that somebody may be waiting for, looking at a page


def lane_of(count: int) -> Lane:
    """Where a request of `count` items stands that somebody waits for."""
    return "small" if count <= SMALL else "large"


class FairQueue(Generic[_Item]):
    """Items by request, in the order of the requests' turns in each lane."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, deque[deque[_Item]]] = {"small": deque(), "large": deque(), "background": deque()}

    def __len__(self) -> int:
        return sum(map(len, self._requests()))

    def has(self, lane: Lane) -> bool:
        """Whether anything waits in a lane."""
        return bool(self._lanes[lane])

    def add(self, items: list[_Item], *, background: bool = False) -> None:
        """Queue the items of one request."""
        if items:
            self._lanes["background" if background else lane_of(len(items))].append(deque(items))

    def waiting(self, lane: Lane) -> int:
        """How many items wait in a lane."""
        return sum(map(len, self._lanes[lane]))

    def ahead_of(self, count: int) -> int:
        """How many items come before the last one of a new request of `count` items, by turns."""
        return sum(min(len(each), count) for lane in (self._lanes["small"], self._lanes["large"]) for each in lane)

    def firsts(self, lane: Lane) -> Iterator[_Item]:
        """The next item of each request in a lane."""
        return (each[0] for each in self._lanes[lane])

    def take(self, lane: Lane) -> _Item | None:
        """The next item of a lane; None if it is empty."""
        if not self._lanes[lane]:
            return None
        request = self._lanes[lane].popleft()
        item = request.popleft()
        if request:
            self._lanes[lane].append(request)
        return item

    def keep(self, wanted: Callable[[_Item], bool]) -> None:
        """Drop all items that are not wanted."""
        for name, lane in self._lanes.items():
            kept = (deque(filter(wanted, each)) for each in lane)
            self._lanes[name] = deque(each for each in kept if each)

    def clear(self) -> list[_Item]:
        """Drop all items, and give them."""
        left = [item for each in self._requests() for item in each]
        for lane in self._lanes.values():
            lane.clear()
        return left

    def _requests(self) -> Iterator[deque[_Item]]:
        for lane in self._lanes.values():
            yield from lane
