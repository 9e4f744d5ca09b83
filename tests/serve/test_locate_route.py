"""POST /v1/locate, and the client's `locate`."""

import base64
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from support.serving import Server, data_uri, post_json

import tandem
from tandem.errors import ServerError
from tandem.search.collection import Collection
from tandem.serve.routes.locate import _heat

pytestmark = pytest.mark.server


def test_the_answer_is_the_models(toy_http: httpx.Client, toy_photos: Collection, place: Path) -> None:
    photo = sorted((place / "photos").iterdir())[0]
    answer = post_json(toy_http, "/v1/locate", image=data_uri(photo), texts=["dog", "a red car"])
    expected = toy_photos.model.locate(photo, ["dog", "a red car"]).as_dict()
    assert [each["text"] for each in answer["locations"]] == ["dog", "a red car"]
    assert (answer["width"], answer["height"], answer["method"]) == tuple(
        expected[name] for name in ("width", "height", "method")
    )
    for ours, theirs in zip(answer["locations"], expected["locations"], strict=True):
        assert ours["present"] == theirs["present"]
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-3)
        assert "heat" not in ours


def test_an_image_of_the_collection_by_its_id_through_the_client(toy_server: Server) -> None:
    with tandem.Client(toy_server.url) as client:
        identifier = client.search("a cat", k=1)[0].id
        answer = client.locate(id=identifier, texts=["dog"])
        heat = answer["locations"][0]["heat"]
        assert heat.dtype == np.float32
        assert heat.shape[0] / heat.shape[1] == pytest.approx(answer["height"] / answer["width"], rel=0.1)
        with pytest.raises(ServerError, match="no image"):
            client.locate(id="00", texts=["dog"])


def test_every_option_of_the_model_is_one_of_the_route(toy_server: Server, toy_photos: Collection, place: Path) -> None:
    photo = sorted((place / "photos").iterdir())[0]
    options: dict[str, Any] = {"templates": "a drawing of a {}", "method": "windows", "heat_size": 9}
    expected = toy_photos.model.locate(photo, ["dog"], **options)[0]
    with tandem.Client(toy_server.url) as client:
        (found,) = client.locate(photo, ["dog"], **options)["locations"]
        (plain,) = client.locate(photo, ["dog"])["locations"]
        with pytest.raises(ServerError, match="this image tower has windows or "):
            client.locate(photo, ["dog"], method="attention-pool")
    assert found["heat"].shape == expected.heat.shape
    assert max(found["heat"].shape) == 9
    assert found["score"] == pytest.approx(expected.score, abs=1e-3)
    assert abs(found["score"] - plain["score"]) > 0.01  # the template counts
    ours, model = (inspect.signature(each).parameters for each in (tandem.Client.locate, tandem.Model.locate))
    assert all(ours[name].default == each.default for name, each in model.items() if name not in ("image", "texts"))


def test_heat_is_sent_as_bytes_of_a_255th(toy_photos: Collection, place: Path) -> None:
    found = toy_photos.model.locate(sorted((place / "photos").iterdir())[0], ["dog"], heat_size=4)[0]
    heat = np.array([[0, 0.5, 1], [0.002, 0.2, 1.5]], np.float32)
    sent = _heat(replace(found, heat=heat))
    assert (sent["width"], sent["height"]) == (3, 2)
    assert list(base64.b64decode(sent["values"])) == [0, 128, 255, 1, 51, 255]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"texts": ["dog"]}, 422, "image or id"),
        ({"id": "00", "texts": []}, 422, "texts"),
        ({"id": "00", "texts": ["dog"] * 17}, 422, "texts"),
        ({"image": "data:image/png;base64,aGVsbG8=", "texts": ["dog"]}, 422, "image"),
        ({"id": "00", "texts": ["x" * 20_000]}, 413, "texts"),
        ({"id": "00", "texts": ["dog"], "templates": "no braces"}, 422, "template 'no braces'"),
        ({"id": "00", "texts": ["dog"], "method": "guessing"}, 422, "method"),
        ({"id": "00", "texts": ["dog"], "heat_size": 1025}, 422, "heat_size"),
        ({"id": "00", "texts": list("abcde"), "heat_size": 1024}, 413, "at most 915 for 5 texts"),
    ],
)
def test_what_is_wrong_is_named(toy_http: httpx.Client, body: dict[str, object], status: int, said: str) -> None:
    answer = toy_http.post("/v1/locate", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.text


def test_a_text_twice_is_refused(toy_http: httpx.Client, place: Path) -> None:
    photo = sorted((place / "photos").iterdir())[0]
    answer = toy_http.post("/v1/locate", json={"image": data_uri(photo), "texts": ["dog", "dog"]})
    assert answer.status_code == 422
    assert "twice" in answer.json()["detail"]
