"""Several servers on one collection, on a real Milvus server and in a bucket: what one does, the others see at once."""

import io
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from support import milvus_server, s3_server, toy
from support.serving import serving

import tandem
from tandem.model import Model
from tandem.search.migration import migrate

pytest.importorskip("fastapi")

pytestmark = pytest.mark.server

IMAGES = 12


@dataclass(frozen=True)
class Pair:
    """Two servers that share nothing but the collection: as on two machines."""

    url: str
    model: Model
    images: list[Path]
    one: httpx.Client
    other: httpx.Client
    home: Path

    @property
    def both(self) -> tuple[httpx.Client, httpx.Client]:
        return self.one, self.other

    def ask(self, server: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
        answer = server.post(path, json=body)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def add(self, server: httpx.Client, seed: int) -> str:
        """The id of an image that was put in."""
        answer = server.post("/v1/images", files={"images": (f"{seed}.png", content(seed), "image/png")})
        assert answer.status_code == 201, answer.text
        identifier: str = answer.json()["added"][0]["id"]
        return identifier

    def size(self, server: httpx.Client) -> int:
        """As the metrics say it."""
        name = self.url.rsplit("/", 1)[-1]
        (line,) = [
            line
            for line in server.get("/metrics").text.splitlines()
            if line.startswith("tandem_collection_images{") and name in line
        ]
        return int(float(line.rsplit(" ", 1)[-1]))


def content(seed: int) -> bytes:
    file = io.BytesIO()
    toy.random_image(seed).save(file, "PNG")
    return file.getvalue()


def address(kind: str) -> str:
    """Where nothing is yet."""
    name = f"served_{uuid.uuid4().hex[:12]}"
    if kind == "milvus":
        pytest.importorskip("pymilvus")
        pytest.importorskip("milvus", reason="needs the milvus wheel (Linux only)")
        return f"milvus://{milvus_server.shared_server().address}/{name}"
    pytest.importorskip("lancedb")
    pytest.importorskip("moto")
    s3_server.shared_server()
    return f"lance+s3://{s3_server.BUCKET}/{name}"


@pytest.fixture(
    scope="module", params=[pytest.param("milvus", marks=pytest.mark.milvus), pytest.param("s3", marks=pytest.mark.s3)]
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    home = tmp_path_factory.mktemp("pair")
    url = address(request.param)
    model = tandem.load(toy.folder(home / "model"))
    files = toy.write_images(home / "images", IMAGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TANDEM_HOME", str(home / "home"))
        with tandem.open(url, model) as collection:
            assert collection.add(home / "images").added == IMAGES
        patch.setenv("TANDEM_HOME", str(home / "home-1"))
        with serving(url, uploads=home / "uploads-1") as one:
            patch.setenv("TANDEM_HOME", str(home / "home-2"))
            with (
                serving(url, uploads=home / "uploads-2") as other,
                httpx.Client(base_url=one.url, timeout=30) as first,
                httpx.Client(base_url=other.url, timeout=30) as second,
            ):
                yield Pair(url, model, files, first, second, home)


def test_both_answer_what_the_collection_answers(pair: Pair) -> None:
    expected = tandem.open(pair.url, pair.model).search("a cat", k=5)
    for server in pair.both:
        assert server.get("/readyz").status_code == 200
        answer = pair.ask(server, "/v1/search", text="a cat", k=5)
        assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected]
        assert answer["total"] == IMAGES == pair.size(server)
        wide = pair.ask(server, "/v1/search", text="a cat", like=answer["hits"][0]["id"], where="width > 1000")
        assert (wide["total"], wide["hits"]) == (0, [])


def test_both_label_alike(pair: Pair) -> None:
    expected = tandem.open(pair.url, pair.model).label(["a cat", "a dog"], k=3)
    for server in pair.both:
        labels = pair.ask(server, "/v1/label", labels=["a cat", "a dog"], k=3)["labels"]
        assert [found["label"] for found in labels] == ["a cat", "a dog"]
        for found in labels:
            assert len(found["images"]) == 3
            assert [each["id"] for each in found["images"]] == [each.id for each in expected[found["label"]]]
        page = pair.ask(server, "/v1/label", labels=["a cat", "a dog"], by="image", limit=100)
        assert len(page["images"]) == page["total"] == IMAGES


@pytest.mark.parametrize("turned", [False, True])
def test_what_one_puts_in_and_takes_out_the_other_sees_at_once(pair: Pair, turned: bool) -> None:
    writer, reader = reversed(pair.both) if turned else pair.both
    for round in range(2):
        seed = 100 + 10 * turned + round
        identifier = pair.add(writer, seed)
        found = reader.post("/v1/search", files={"image": ("a.png", content(seed), "image/png")}, data={"k": "1"})
        assert found.status_code == 200, found.text
        assert found.json()["hits"][0]["id"] == identifier
        assert found.json()["hits"][0]["score"] == pytest.approx(1, abs=1e-4)
        assert found.json()["total"] == IMAGES + 1 == pair.size(reader)
        small = reader.get(f"/v1/images/{identifier}/thumbnail")
        assert Image.open(io.BytesIO(small.content)).format == "JPEG"
        assert identifier in {hit["id"] for hit in pair.ask(reader, "/v1/search", like=identifier)["hits"]}

        assert reader.delete(f"/v1/images/{identifier}").json() == {"deleted": 1}
        assert writer.get(f"/v1/images/{identifier}").status_code == 404
        assert writer.get(f"/v1/images/{identifier}/thumbnail").status_code == 404
        assert writer.post("/v1/search", json={"like": identifier}).status_code == 404
        left = pair.ask(writer, "/v1/search", text="a cat", k=100)
        assert len(left["hits"]) == IMAGES == pair.size(writer)
        assert identifier not in {hit["id"] for hit in left["hits"]}
        assert writer.delete(f"/v1/images/{identifier}").status_code == 404


def test_an_image_removed_by_the_other_can_be_added_again(pair: Pair) -> None:
    identifier = pair.add(pair.one, 200)
    pair.other.delete(f"/v1/images/{identifier}").raise_for_status()
    assert pair.add(pair.one, 200) == identifier
    assert pair.other.get(f"/v1/images/{identifier}").status_code == 200
    pair.other.delete(f"/v1/images/{identifier}").raise_for_status()


def test_both_write_at_the_same_time(pair: Pair) -> None:
    seeds = range(300, 306)
    with ThreadPoolExecutor(4) as threads:
        ids = list(threads.map(lambda seed: pair.add(pair.both[seed % 2], seed), seeds))
        same = list(threads.map(lambda server: pair.add(server, 400), pair.both))
    assert len(set(ids)) == len(seeds)
    assert len(set(same)) == 1
    for server in pair.both:
        hits = {hit["id"] for hit in pair.ask(server, "/v1/search", text="a cat", k=100)["hits"]}
        assert hits >= {*ids, *same}
        assert len(hits) == IMAGES + len(seeds) + 1
    taken = [each.request("DELETE", "/v1/images", json={"ids": [*ids, *same]}) for each in pair.both]
    assert [each.json() for each in taken] == [{"deleted": len(seeds) + 1}, {"deleted": 0}]


def test_moved_to_another_model_both_follow(pair: Pair) -> None:
    other = tandem.load(toy.folder(pair.home / "other", seed=1, name="other"))
    for server in pair.both:
        assert pair.ask(server, "/v1/search", text="a cat")["model"]["name"] == "toy"
    assert migrate(pair.url, other).done
    expected = tandem.open(pair.url, other).search("a cat", k=5)
    for server in pair.both:
        answer = pair.ask(server, "/v1/search", text="a cat", k=5)
        assert answer["model"]["name"] == "other"
        assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected]
