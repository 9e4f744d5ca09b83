"""A Tandem server from Python: `tandem.Client(url)`. Verbs (`verbs`), requests (`calls`), pictures (`sending`)."""

from tandem.client.verbs import Client

__all__ = ["Client"]
