"""A queue that is fair to requests: each in turn gives one item, so that a large one delays a small one by little.

What works in the background has a lane of its own, which is served while nobody else waits. Knows items and whose they
are; no threads and no clock.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


@dataclass
class _Request(Generic[_Item]):
    items: deque[_Item] = field(default_factory=deque)


class FairQueue(Generic[_Item]):
    """Items by request, in the order of the requests' turns."""

    def __init__(self) -> None:
        self._people: deque[_Request[_Item]] = deque()
        self._background: deque[_Request[_Item]] = deque()

    def __len__(self) -> int:
        return sum(len(each.items) for lane in (self._people, self._background) for each in lane)

    def __iter__(self) -> Iterator[_Item]:
        for lane in (self._people, self._background):
            for each in lane:
                yield from each.items

    @property
    def has_people(self) -> bool:
        return bool(self._people)

    def add(self, items: list[_Item], *, background: bool = False) -> None:
        """Queue the items of one request."""
        if items:
            (self._background if background else self._people).append(_Request(deque(items)))

    def ahead_of(self, count: int) -> int:
        """How many items come before the last one of a new request of `count` items."""
        return sum(min(len(each.items), count) for each in self._people)

    def firsts(self, *, background: bool) -> Iterator[_Item]:
        """The next item of each request in a lane."""
        for each in self._background if background else self._people:
            yield each.items[0]

    def take(self, *, background: bool) -> _Item | None:
        """The next item of a lane; None if it is empty."""
        lane = self._background if background else self._people
        if not lane:
            return None
        request = lane.popleft()
        item = request.items.popleft()
        if request.items:
            lane.append(request)
        return item

    def keep(self, wanted: Callable[[_Item], bool]) -> None:
        """Drop all items that are not wanted."""
        for lane in (self._people, self._background):
            kept = [_Request(deque(filter(wanted, each.items))) for each in lane]
            lane.clear()
            lane.extend(each for each in kept if each.items)

    def clear(self) -> list[_Item]:
        """Drop all items, and give them."""
        left = list(self)
        self._people.clear()
        self._background.clear()
        return left
