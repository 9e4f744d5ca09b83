"""What was prepared -> the store, then the ledger: one picture for each content, with all its places.

A batch is one commit of the store, and after it one of the ledger. Killed in between, the places are read again and
nothing is put in twice. A picture that loses a place (the file there changed, or is gone) is written down in the
ledger first and seen to at the end of a run, when its content may have come up elsewhere.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tandem.search.indexing.ledger import AT_ONCE, Ledger, Seen
from tandem.search.indexing.picture import COLUMNS, paths_of
from tandem.search.indexing.places import SetAside
from tandem.search.indexing.preparing import Claims, Outcome
from tandem.search.stores.protocol import Records, Store, Value


@dataclass
class Tally:
    """What a run came to, counted in places."""

    added: int = 0  # with a picture that was not there
    unchanged: int = 0
    duplicates: int = 0  # another place of a picture that was there
    moved: int = 0  # the new place of a picture whose old one is gone
    changed: int = 0  # they hold another picture than before
    pruned: int = 0  # taken out: gone
    set_aside: int = 0
    failures: list[SetAside] = field(default_factory=list)  # captions that cannot be read included

    @property
    def done(self) -> int:
        """Places that were looked at."""
        return self.added + self.unchanged + self.duplicates + self.moved + self.changed + self.set_aside


@dataclass
class Picture:
    """A record of the store, on its way to being written again."""

    id: str
    vector: np.ndarray
    values: dict[str, Value]
    is_new: bool
    paths: set[str]
    is_touched: bool = False


class Recorder:
    """Writes outcomes down. One thread uses it."""

    def __init__(self, store: Store, ledger: Ledger, claims: Claims, left: Callable[[str], bool], tally: Tally) -> None:
        """`left` says of a place whether its file was moved away: it is gone, and its disk is there."""
        self.store, self.ledger, self.claims, self.tally = store, ledger, claims, tally
        self._left = left
        self.is_whole = True  # whether the ledger stands where the store stands
        self._waiting: dict[str, list[Outcome]] = {}  # duplicates of what is under way

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits for a picture that is still under way."""
        return not self._waiting

    def write(self, outcomes: Iterable[Outcome]) -> None:
        """Put a batch into the store, all or none, and then into the ledger."""
        batch = list(outcomes)
        batch += [late for outcome in batch if outcome.id for late in self._waiting.pop(outcome.id, [])]
        failed = {outcome.id: outcome for outcome in batch if outcome.id and outcome.reason is not None}
        before = self.ledger.lookup([outcome.entry.path for outcome in batch])
        pictures = self._pictures(batch)
        seen: list[Seen] = []
        leaving: list[tuple[str, str]] = []
        gone: list[str] = []
        for outcome in batch:
            path, stamp = outcome.entry.path, outcome.entry.stamp
            earlier = before.get(path)
            previous = earlier.id if earlier is not None else None
            if outcome.id is None or outcome.reason is not None:
                self._set_aside(outcome, previous, seen, leaving)
                continue
            picture = pictures.get(outcome.id)
            if picture is None:
                twin, reason = failed.get(outcome.id), self.claims.failed(outcome.id)
                if twin is not None:
                    self._set_aside(replace(twin, entry=outcome.entry), previous, seen, leaving)
                elif reason is not None:
                    self._set_aside(Outcome(outcome.entry, outcome.id, reason), previous, seen, leaving)
                else:
                    self._waiting.setdefault(outcome.id, []).append(outcome)
                continue
            self._place(picture, outcome, previous, gone)
            if previous not in (None, outcome.id):
                leaving.append((path, str(previous)))
            if outcome.caption_reason is not None:
                self.tally.failures.append(SetAside(path, outcome.caption_reason))
            seen.append(Seen(path, stamp, outcome.id, outcome.caption_reason))
        touched = [picture for picture in pictures.values() if picture.is_touched]
        self.is_whole = False
        if touched:
            self.store.upsert(records(touched))
        self.ledger.note(seen, leaving=leaving, gone=gone)
        self.is_whole = True
        self.claims.release([picture.id for picture in pictures.values()])

    def give_up(self) -> None:
        """Set aside what waits in vain, at the end: another process took its picture out meanwhile."""
        late = [outcome for waiting in self._waiting.values() for outcome in waiting]
        self._waiting = {}
        reason = "its picture was taken out of the collection meanwhile: index it again"
        self.write(replace(outcome, reason=reason, passing=True) for outcome in late)

    def _pictures(self, batch: Sequence[Outcome]) -> dict[str, Picture]:
        """The records that the batch is about: those in the store as they are there, the others as they were made."""
        wanted = list(dict.fromkeys(outcome.id for outcome in batch if outcome.id and outcome.reason is None))
        pictures = read(self.store, wanted)
        for outcome in batch:
            if outcome.id and outcome.values is not None and outcome.vector is not None and outcome.id not in pictures:
                pictures[outcome.id] = Picture(outcome.id, outcome.vector, dict(outcome.values), True, set())
        return pictures

    def _place(self, picture: Picture, outcome: Outcome, previous: str | None, gone: list[str]) -> None:
        """Add a place to a picture, and count what that means."""
        path = outcome.entry.path
        if path in picture.paths:
            self.tally.unchanged += 1
        else:
            left = [other for other in picture.paths if self._left(other)]
            if previous not in (None, picture.id):
                self.tally.changed += 1
            elif left:
                self.tally.moved += 1
            elif picture.is_new and not picture.paths:
                self.tally.added += 1
            else:
                self.tally.duplicates += 1
            picture.paths = (picture.paths - set(left)) | {path}
            picture.is_touched = True
            gone += left
        if outcome.caption is not None:
            caption = outcome.caption
            if len(picture.paths) > 1:  # which line came from which place is not known: none is taken away
                lines = [*str(picture.values.get("caption") or "").splitlines(), *caption.splitlines()]
                caption = "\n".join(dict.fromkeys(filter(None, lines)))
            if caption != picture.values.get("caption"):
                picture.values["caption"] = caption
                picture.is_touched = True

    def _set_aside(
        self, outcome: Outcome, previous: str | None, seen: list[Seen], leaving: list[tuple[str, str]]
    ) -> None:
        path, reason = outcome.entry.path, outcome.reason or "unknown"
        self.tally.failures.append(SetAside(path, reason))
        self.tally.set_aside += 1
        if outcome.passing:
            return  # what is known of the place stays, and it is tried again
        unread = outcome.id is None and reason == "permission denied"
        if previous is not None and not unread:
            leaving.append((path, previous))
        seen.append(Seen(path, outcome.entry.stamp, previous if unread else None, reason))


def read(store: Store, ids: Sequence[str]) -> dict[str, Picture]:
    """Records with all that is in them, as they have to be to be written again."""
    pictures: dict[str, Picture] = {}
    for start in range(0, len(ids), AT_ONCE):
        held = store.get(ids[start : start + AT_ONCE], columns=list(COLUMNS))
        for index, id in enumerate(held.ids):
            values = held.row(index)
            assert held.vectors is not None
            pictures[id] = Picture(id, held.vectors[index], values, False, set(paths_of(values)))
    return pictures


def records(pictures: Sequence[Picture]) -> Records:
    for picture in pictures:
        paths = sorted(picture.paths)
        picture.values |= {"path": paths[0], "paths": json.dumps(paths, ensure_ascii=False)}
    columns = {name: [picture.values.get(name) for picture in pictures] for name in COLUMNS}
    return Records([picture.id for picture in pictures], np.stack([picture.vector for picture in pictures]), columns)
