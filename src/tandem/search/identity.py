"""The notes of a collection about itself, and the check that a model is the one whose vectors are in it.

Vectors of different models must never mix: their cosines mean nothing, and nothing would show it.
"""

import contextlib
import json
import shlex
import uuid
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.config import PROMISE
from tandem.errors import StoreError, StoreExistsError, TandemError
from tandem.files import user_path
from tandem.home import data_folder
from tandem.search.indexing.image_record import COLUMNS
from tandem.search.stores import backends as stores
from tandem.search.stores.protocol import Schema, Store

if TYPE_CHECKING:
    from tandem.model import Model

FORMAT = "1"
MAX_ROOTS = 100  # remembered; the latest


def schema_for(model: "Model") -> Schema:
    """The columns that a collection of this model's vectors stores for each image."""
    return Schema(model.config.embed_dim, COLUMNS)


def notes_for(model: "Model") -> dict[str, str]:
    """The notes of a new collection."""
    about = model.config.quantization
    return {
        "format": FORMAT,
        "identity": uuid.uuid4().hex,
        "model_name": model.name,
        "model_fingerprint": model.fingerprint,
        "model_source": source_of(model),
        "orientation": "upright" if model.orient else "as stored",
        **({"mixes_with": about.source_fingerprint} if about is not None and about.mixes else {}),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def with_roots(notes: Mapping[str, str], roots: Sequence[str]) -> dict[str, str] | None:
    """The note of the indexed folders with these added; None if it lists them already."""
    known = roots_of(notes)
    fresh = [root for root in roots if root not in known]
    return {"roots": json.dumps([*known, *fresh][-MAX_ROOTS:], ensure_ascii=False)} if fresh else None


def roots_of(notes: Mapping[str, str]) -> list[str]:
    """The folders that were indexed."""
    return [str(root) for root in json.loads(notes.get("roots") or "[]")]


@dataclass(frozen=True)
class CollectionInfo:
    """Information on a collection."""

    url: str
    count: int  # images
    model: str
    fingerprint: str
    model_source: str  # what loads the model; empty for the one that ships inside
    dimensions: int
    columns: tuple[str, ...]  # that filters can name
    orientation: str
    created: str | None  # ISO 8601; None for collections made before this was written down
    roots: tuple[str, ...]  # the folders that were indexed
    size_bytes: int | None  # on this disk; None for a collection on a server
    moments: int = 0  # of the images, pictures of films


def info(store: Store) -> CollectionInfo:
    """The information in a store's notes."""
    notes = store.notes
    return CollectionInfo(
        url=store.url,
        count=store.count(),
        model=notes.get("model_name", ""),
        fingerprint=notes.get("model_fingerprint", ""),
        model_source=notes.get("model_source", ""),
        dimensions=store.schema.dimensions,
        columns=tuple(name for name, kind in store.schema.columns.items() if kind != "bytes"),
        orientation=notes.get("orientation", "upright"),
        created=notes.get("created") or None,
        roots=tuple(roots_of(notes)),
        size_bytes=None if store.folder is None else _size_of(store.folder),
        moments=moments_in(store),
    )


def moments_in(store: Store) -> int:
    """How many images are pictures of films; collections of earlier versions have no place for their times."""
    return store.count("time is not null") if "time" in store.schema.columns else 0


def _size_of(folder: Path) -> int:
    size = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # another process may put it away meanwhile
            size += file.lstat().st_size if not file.is_dir() else 0
    return size


def source_of(model: "Model") -> str:
    """The source that loads this model again from any working directory; empty for the model that ships with Tandem."""
    from tandem.model import SHIPPED

    source = model.checkpoint.source
    if source == str(SHIPPED):
        return ""
    path = user_path(source)
    return str(path.resolve()) if path.exists() else source


def create(url: str, model: "Model") -> Store | None:
    """A new collection of this model's vectors, open for writing; None where another process made one just now.

    `StoreError` where that one is of another model.
    """
    try:
        return stores.create_store(url, schema_for(model), notes_for(model))
    except StoreExistsError:
        pass
    with closing(stores.open_store(url)) as existing:
        check_model(url, existing.notes, model, existing.schema.dimensions)
    return None


def load_model(
    url: str, notes: Mapping[str, str], given: "Model | str | Path | None", loading: Mapping[str, Any]
) -> "Model":
    """The given model, else the one that the collection names; `loading` is for `tandem.load`.

    `check_model` checks that it is the collection's own. Raises `StoreError` if the named one can no longer be loaded.
    """
    from tandem.model import Model, load

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
    """Refuse a model whose name shows that it is not the collection's, before it is downloaded."""
    from tandem.model import SHIPPED
    from tandem.weights.published import known_name

    theirs = known_name(notes.get("model_source") or SHIPPED.name)  # as `source_of` writes it
    other = None if user_path(given).exists() else known_name(str(given))
    if theirs is not None and other is not None and theirs != other:
        raise StoreError(_another(url, notes, other, str(given)))


def _another(url: str, notes: Mapping[str, str], name: str, source: str) -> str:
    """`source` is what loads the other model; empty for the one that ships inside."""
    from tandem.model import SHIPPED
    from tandem.weights.published import known_name

    made_with = notes.get("model_name", "an unknown model")
    loaded_from = notes.get("model_source", "") if known_name(made_with) is None else ""
    theirs = _called(made_with, loaded_from, notes.get("model_fingerprint", "")[:12])
    command = f"tandem migrate {shlex.quote(url)} --model {shlex.quote(source or SHIPPED.name)}"
    # A later edition of the model that ships, or a folder that was overwritten.
    if (notes.get("model_source") or "") == source and (source or made_with == SHIPPED.name):
        return (
            f"{url} holds vectors of {theirs}, which has other weights now, {name}: embed its photos again: {command}"
        )
    return f"{url} holds vectors of {theirs}, not of {name}: leave the model out, or move the collection: {command}"


def _called(name: str, *beside: str) -> str:
    """A model's name, and beside it what tells two of that name apart: all quantised models of a source have one."""
    told = ", ".join(filter(None, beside))
    return f"{name} ({told})" if told else name


def check_model(url: str, notes: Mapping[str, str], model: "Model", dimensions: int) -> None:
    """Refuse a model other than the collection's own, and those that were measured to agree with it.

    A quantised model goes beside its source, and its source beside it, where their agreement allows it; a warning says
    so. dimensions: of the collection's vectors. Raises `StoreError`.
    """
    theirs = notes.get("model_fingerprint", "")
    about = model.config.quantization
    folder = "" if about is None else source_of(model)
    mine = _called(model.name, folder)
    related = {model.fingerprint, "" if about is None else about.source_fingerprint}
    is_known = theirs in related or notes.get("mixes_with") == model.fingerprint
    if is_known and model.config.embed_dim != dimensions:
        raise StoreError(
            f"{url} holds vectors of {dimensions} dimensions by {notes.get('model_name', 'an unknown model')}, and "
            f"those of {mine} have {model.config.embed_dim}: leave the model out, or make a collection of its own"
        )
    if theirs != model.fingerprint and about is not None and theirs == about.source_fingerprint:
        if not about.mixes:
            raise StoreError(
                f"{url} holds vectors of {about.source}; {mine} agrees with it too little to be mixed with them "
                f"({about.figures}; needed: {PROMISE}, also for its queries among the source's vectors): leave the "
                "model out, or make a collection of its own"
            )
        warnings.warn(f"{url}: {mine} stands in for {about.source}: {about.figures}", stacklevel=3)
    elif theirs != model.fingerprint and notes.get("mixes_with") == model.fingerprint:
        theirs = _called(notes["model_name"], notes.get("model_source", ""))
        warnings.warn(f"{url}: {model.name} stands in for {theirs}, made from it", stacklevel=3)
    elif theirs != model.fingerprint:
        name = _called(model.name, folder, model.fingerprint[:12])
        raise StoreError(_another(url, notes, name, source_of(model)))
    choice = "upright" if model.orient else "as stored"
    if notes.get("orientation", choice) != choice:
        raise StoreError(f"{url} holds images {notes['orientation']}: load the model with orient={not model.orient}")


def ledger_path(store: Store) -> Path:
    """The path of this machine's ledger of a collection."""
    if store.folder is None:
        return data_folder() / "ledgers" / f"{store.notes['identity']}.sqlite"
    return store.folder / "files.sqlite"
