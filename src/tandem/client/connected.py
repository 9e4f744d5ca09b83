"""What the methods of every resource need: the calls to the server, and the collection that is meant."""

from tandem.client.calls import Calls


class Connected:
    """A server, and one of its collections; None for the first."""

    collection: str | None
    _calls: Calls

    def _collection(self) -> dict[str, str]:
        return {} if self.collection is None else {"collection": self.collection}
