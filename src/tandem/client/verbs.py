"""`tandem.Client(url)`: the methods of a model and a collection, over HTTP to a `tandem serve`.

Arguments and results are those of the local objects. Images are read here and sent in their encoded form, so that the
vectors are the same. Knows the JSON of the interface; it has no model, no store and no code of the server.
"""

import os
from typing import Any

from tandem.client.calls import Calls
from tandem.client.collection_verbs import CollectionVerbs
from tandem.client.model_verbs import ModelVerbs
from tandem.errors import TandemError


class Client(ModelVerbs, CollectionVerbs):
    """A server's model and collection. Keeps connections; thread-safe.

    Idempotent requests are retried after lost connections and responses 429, 502, 503 and 504, with exponential backoff
    or the delay that the server asks for. Error responses raise `ServerError` with their title and detail.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        collection: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 3,
        **testing: Any,
    ) -> None:
        """
        Args:
            url: the server's address, such as http://localhost:8000.
            api_key: None for TANDEM_API_KEY, if it is set.
            collection: the name of one of the server's collections; None for the first.
            timeout_s: seconds for one attempt, its whole answer included; sending large requests adds some.
            retries: attempts after the first.
            testing: see `Calls`.
        """
        self.collection = collection
        key = os.environ.get("TANDEM_API_KEY") if api_key is None else api_key
        self._calls = Calls(url, api_key=key, timeout_s=timeout_s, retries=retries, **testing)

    def __repr__(self) -> str:
        return f"<tandem.Client {self._calls.url}>"

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._calls.close()

    def models(self) -> list[dict[str, Any]]:
        """The models served, as the server describes them."""
        return self._listed("/v1/models")

    def heads(self) -> list[dict[str, Any]]:
        """The heads that `classify` and `label` take by name, as the server describes them."""
        return self._listed("/v1/heads")

    def policies(self) -> list[dict[str, Any]]:
        """The policies that `moderate` takes by name, as the server describes them."""
        return self._listed("/v1/policies")

    def collections(self) -> list[dict[str, Any]]:
        """The collections served, as the server describes them."""
        return self._listed("/v1/collections")

    def _listed(self, path: str) -> list[dict[str, Any]]:
        answer = self._calls.document("GET", path, wants="data")
        with self._calls.checked(path):
            return [dict(each) for each in answer["data"]]

    def ready(self) -> bool:
        """Whether the server's models and collections answer in time. Does not retry."""
        try:
            return self._calls.once("GET", "/readyz").status_code == 200
        except TandemError:
            return False
