"""Tandem: CLIP for everyday use. Public names are imported on first use, so that `import tandem` is cheap."""

from typing import TYPE_CHECKING

from tandem.lazy_names import lazy
from tandem.version import __version__

if TYPE_CHECKING:
    from tandem.answer import Answer
    from tandem.client import Client
    from tandem.config import ModelConfig
    from tandem.errors import (
        ClientError,
        ConditioningError,
        ConfigError,
        DamageWarning,
        DataError,
        EngineError,
        FilterError,
        HeadError,
        HubError,
        ImageError,
        MissingExtraError,
        RemoteFileError,
        ServerError,
        SidecarError,
        StoreBusyError,
        StoreError,
        StoreExistsError,
        StoreFullError,
        StoreNotFoundError,
        TandemError,
        TextError,
        WeightsError,
    )
    from tandem.model import Model, load
    from tandem.search.collection import Collection
    from tandem.search.collection import open_collection as open
    from tandem.search.query import SearchQuery
    from tandem.tokenizer import Tokenizer

__all__ = [
    "Answer",
    "Client",
    "ClientError",
    "Collection",
    "ConditioningError",
    "ConfigError",
    "DamageWarning",
    "DataError",
    "EngineError",
    "FilterError",
    "HeadError",
    "HubError",
    "ImageError",
    "MissingExtraError",
    "Model",
    "ModelConfig",
    "RemoteFileError",
    "SearchQuery",
    "ServerError",
    "SidecarError",
    "StoreBusyError",
    "StoreError",
    "StoreExistsError",
    "StoreFullError",
    "StoreNotFoundError",
    "TandemError",
    "TextError",
    "Tokenizer",
    "WeightsError",
    "__version__",
    "load",
    "open",
]

_HOMES = dict.fromkeys(__all__, "tandem.errors") | {  # what has no other home is an error
    "Answer": "tandem.answer",
    "Client": "tandem.client",
    "Collection": "tandem.search.collection",
    "Model": "tandem.model",
    "ModelConfig": "tandem.config",
    "SearchQuery": "tandem.search.query",
    "Tokenizer": "tandem.tokenizer",
    "load": "tandem.model",
    "open": "tandem.search.collection:open_collection",
}

__getattr__ = lazy(globals(), _HOMES)


def __dir__() -> list[str]:
    return __all__
