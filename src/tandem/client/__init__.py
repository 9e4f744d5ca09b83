"""A Tandem server from Python: `tandem.Client(url)`. Methods (`verbs`), requests (`calls`), images (`sending`).

The methods are by resource: `model_verbs`, `collection_verbs`, and in `verbs` those of the server.
"""

from tandem.client.verbs import Client

__all__ = ["Client"]
