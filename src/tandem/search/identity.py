"""What a collection says of itself, and whether a model is the one whose vectors are in it.

Vectors of different models must never meet: they would compare without any sign that it means nothing.
"""

import uuid
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tandem.errors import StoreError, StoreExistsError, TandemError
from tandem.model import SHIPPED, Model, load
from tandem.search.home import data_folder
from tandem.search.indexing.image_record import COLUMNS
from tandem.search.stores import backends as stores
from tandem.search.stores.protocol import Schema, Store
from tandem.weights.published import known_name

FORMAT = "1"


def schema_for(model: Model) -> Schema:
    """What a collection of this model's vectors keeps of each image."""
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


def create(url: str, model: Model) -> Store | None:
    """A new collection of this model's vectors, open for writing; None where another process made one just now.

    `StoreError` where that one is of another model.
    """
    try:
        return stores.create_store(url, schema_for(model), notes_for(model))
    except StoreExistsError:
        pass
    with closing(stores.open_store(url)) as made:
        check_model(url, made.notes, model)
    return None


def load_model(
    url: str, notes: Mapping[str, str], given: Model | str | Path | None, loading: Mapping[str, Any]
) -> Model:
    """The model that was given for a collection, else the one that it says it is of; `loading` is for `tandem.load`.

    Whether it is the collection's own, `check_model` says. `StoreError` where its own can no longer be loaded.
    """
    if isinstance(given, Model):
        return given
    if given is not None and notes:
        _refuse_by_name(url, notes, given)
    source = given or notes.get("model_source") or None
    try:
        return load(source, **loading)
    except TandemError as error:
        if given is not None or source is None:
            raise
        name = notes.get("model_name", "its model")
        raise StoreError(f"{url} was made with {name}, which cannot be loaded: {error}; give it as model") from None


def _refuse_by_name(url: str, notes: Mapping[str, str], given: str | Path) -> None:
    """Refuse a model that is known by its name to be another than the collection's, before it is downloaded."""
    theirs = known_name(notes.get("model_source") or SHIPPED.name)  # as `source_of` writes it
    other = None if Path(given).expanduser().exists() else known_name(str(given))
    if theirs is not None and other is not None and theirs != other:
        raise StoreError(_another(url, notes, other))


def _another(url: str, notes: Mapping[str, str], name: str) -> str:
    theirs = f"{notes.get('model_name', 'an unknown model')} ({notes.get('model_fingerprint', '')[:12]})"
    advice = "leave the model out, or move the collection: tandem migrate"
    return f"{url} holds vectors of {theirs}, not of {name}: {advice}"


def check_model(url: str, notes: Mapping[str, str], model: Model) -> None:
    """Refuse a model other than the collection's own: its vectors would mean nothing there."""
    if notes.get("model_fingerprint", "") != model.fingerprint:
        raise StoreError(_another(url, notes, f"{model.name} ({model.fingerprint[:12]})"))
    choice = "upright" if model.orient else "as stored"
    if notes.get("orientation", choice) != choice:
        raise StoreError(f"{url} holds images {notes['orientation']}: load the model with orient={not model.orient}")


def ledger_path(store: Store) -> Path:
    """Where this machine remembers which files it has read for a collection."""
    if store.folder is None:
        return data_folder() / "ledgers" / f"{store.notes['identity']}.sqlite"
    return store.folder / "files.sqlite"
