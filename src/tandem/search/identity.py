"""What a collection says of itself, and whether a model is the one whose vectors are in it.

Vectors of different models must never meet: they would compare without any sign that it means nothing.
"""

import uuid
from collections.abc import Mapping
from pathlib import Path

from tandem.errors import StoreError
from tandem.model import SHIPPED, Model
from tandem.search import store as stores
from tandem.search.home import data_folder
from tandem.search.indexing.picture import COLUMNS
from tandem.search.store import Schema

FORMAT = "1"


def schema_for(model: Model) -> Schema:
    """What a collection of this model's vectors keeps of each picture."""
    return Schema(model.config.embed_dim, COLUMNS)


def notes_for(model: Model) -> dict[str, str]:
    """What a new collection says of itself."""
    return {
        "format": FORMAT,
        "identity": uuid.uuid4().hex,
        "model_name": model.name,
        "model_fingerprint": model.fingerprint,
        "model_source": source_of(model),
        "orientation": "upright" if model.orient else "as stored",
    }


def source_of(model: Model) -> str:
    """What loads this model again, from wherever it is asked; empty for the model that ships inside."""
    source = model.checkpoint.source
    if source == str(SHIPPED):
        return ""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source


def check_model(url: str, notes: Mapping[str, str], model: Model) -> None:
    """Refuse a model other than the collection's own: its vectors would mean nothing there."""
    theirs = notes.get("model_fingerprint", "")
    if theirs != model.fingerprint:
        raise StoreError(
            f"{url} holds vectors of {notes.get('model_name', 'an unknown model')} ({theirs[:12]}), not of "
            f"{model.name} ({model.fingerprint[:12]}): leave the model out, or move the collection: tandem migrate"
        )
    choice = "upright" if model.orient else "as stored"
    if notes.get("orientation", choice) != choice:
        raise StoreError(f"{url} holds pictures {notes['orientation']}: load the model with orient={not model.orient}")


def ledger_path(url: str, notes: Mapping[str, str], *, successor: bool = False) -> Path:
    """Where this machine remembers which files it has read for a collection."""
    if stores.is_server(url):
        return data_folder() / "ledgers" / f"{notes['identity']}.sqlite"
    from tandem.search.embedded import store as embedded

    return embedded.folder(url, successor=successor) / "files.sqlite"
