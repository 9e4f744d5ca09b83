"""What the tests of the server share: a server of two toy collections and a policy; its tests leave it as it was."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.browsing import browser, collection, page, url
from support.serving import LONG_S, Server, serving, toy_collection

import tandem
from tandem.search.collection import Collection

__all__ = ["browser", "collection", "page", "place", "toy_http", "toy_photos", "toy_server", "url"]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos.tandem` and `others.tandem`, of the images in `photos` and `others`."""
    here = tmp_path_factory.mktemp("served")
    toy_collection(here)
    toy_collection(here, "others")
    return here


@pytest.fixture(scope="session")
def toy_server(place: Path) -> Iterator[Server]:
    with serving(
        place / "photos.tandem",
        place / "others.tandem",
        batch_wait_s=0.05,
        corrections=place / "corrections",
        policies=["people"],  # of the example of /v1/moderate
    ) as there:
        yield there


@pytest.fixture
def toy_http(toy_server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=toy_server.url, timeout=LONG_S) as client:
        yield client


@pytest.fixture(scope="session")
def toy_photos(place: Path, toy_server: Server) -> Iterator[Collection]:
    """The first collection, opened in this process."""
    with tandem.open(place / "photos.tandem") as opened:
        yield opened
