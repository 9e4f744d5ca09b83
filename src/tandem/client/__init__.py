"""A Tandem server from Python: `tandem.Client(url)`. Methods (`verbs`), requests (`calls`), images (`sending`)."""

from tandem.client.verbs import Client

__all__ = ["Client"]
