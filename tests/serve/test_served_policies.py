"""Policies that a server offers: the routes and the client."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from support.moderation_toys import POLICY, draw, draw_labelled
from support.serving import client_of, data_uri, post_json, toy_collection

import tandem
from tandem.client import Client
from tandem.datasets.opening import open_dataset
from tandem.errors import ConfigError, DataError, ImageError, ServerError
from tandem.evaluate.features import embed_dataset
from tandem.moderation import Moderator, fit_policy, open_policy, read_fit, write_fit
from tandem.serve.app import build_app
from tandem.serve.policies import ServedPolicies
from tandem.serve.service import Service, open_service
from tandem.serve.settings import Settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("served")
    toy_collection(here)
    model = tandem.load(here / "model")
    (here / "red.toml").write_text(POLICY)
    labelled = embed_dataset(model, open_dataset(draw_labelled(here / "labelled", 26)), cache=False)
    write_fit(fit_policy(model, open_policy(here / "red.toml"), labelled), here / "red.fit.json")
    draw(here / "a.png", red=True, seed=900)
    draw(here / "b.png", red=False, seed=901)
    return here


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    settings = Settings(batch_wait_s=0, policies=(str(folder / "red.toml"), "people"), max_batch=4)
    made = open_service(settings, [str(folder / "photos.tandem")])
    yield made
    made.close()


@pytest.fixture
def here(service: Service) -> TestClient:
    return TestClient(build_app(service), base_url="http://127.0.0.1:8000")


@pytest.fixture
def client(here: TestClient) -> Client:
    return client_of(here, retries=0)


@pytest.mark.slow
def test_the_client_gets_what_a_moderator_says(client: Client, folder: Path) -> None:
    images = [folder / "a.png", folder / "b.png"]
    local = Moderator(folder / "red.toml", tandem.load(folder / "model")).moderate(images)
    found = client.moderate(images, "red", batch_size=1)
    assert [each["image"] for each in found] == list(map(str, images))
    for one, other in zip(found, local, strict=True):
        said, expected = one["categories"]["red"], other.categories["red"]
        assert (one["band"], said["band"]) == (other.band, expected.band)
        assert said["probability"] == pytest.approx(expected.probability, abs=1e-4)
        assert said["nearest"]["for"]["text"] == expected.nearest["for"].text
    assert found[0]["band"] in ("review", "block")
    assert found[1]["band"] == "allow"
    assert [each["band"] for each in client.moderate(images, "people")] == ["not fitted"] * 2


def test_the_policies_are_listed_with_their_figures_and_without_files(client: Client, folder: Path) -> None:
    red, people = client.policies()
    assert (red["name"], people["name"]) == ("red", "people")
    assert red["policy"] == {"name": "red things", "fingerprint": open_policy(folder / "red.toml").fingerprint}
    assert red["categories"]["red"]["figures"]["auc"]["chance"] == 0.5
    fit = read_fit(folder / "red.fit.json").categories["red"]
    for name in ("review_probability", "block_probability"):  # called as the fit and its JSON have them
        assert red["categories"]["red"][name] == getattr(fit, name) == fit.as_dict()[name]
    assert red["fit"]["fingerprint"]
    assert people["fit"] is None
    assert people["categories"]["people"] == {
        "description": "At least one person can be seen.",
        "base_rate": 0.3,
        "fitted": False,
    }
    assert str(folder) not in str([red, people])


def test_images_of_a_collection_are_judged_by_their_vectors(here: TestClient, client: Client, folder: Path) -> None:
    with tandem.open(folder / "photos.tandem") as photos:
        wanted = {each.id: each for batch in Moderator(folder / "red.toml", photos.model).iter_store(photos.store)
                  for each in batch}  # fmt: skip
    ids = [*wanted][:2][::-1]
    answer = post_json(here, "/v1/moderate", ids=ids, policy="red", collection="photos")
    assert [each["id"] for each in answer["results"]] == ids
    for said in answer["results"]:
        expected = wanted[said["id"]]
        assert (said["image"], said["band"]) == (expected.image, expected.band)
        assert said["categories"]["red"]["score"] == pytest.approx(expected.categories["red"].score, rel=1e-3, abs=1e-4)
    assert (answer["failures"], answer["policy"]["name"]) == ([], "red things")
    for body, status in (({"ids": [ids[0], "00"]}, 404), ({"ids": ids, "image": data_uri(folder / "a.png")}, 422)):
        refused = here.post("/v1/moderate", json={"policy": "red", **body})
        assert refused.status_code == status, refused.text


def test_a_collection_of_another_model_is_refused(service: Service, here: TestClient, folder: Path) -> None:
    other = dataclasses.replace(service.policies, moderators={"red": SimpleNamespace(
        model=SimpleNamespace(name="other", fingerprint="0" * 64))})  # fmt: skip
    kept, service.policies = service.policies, other
    try:
        answer = here.post("/v1/moderate", json={"policy": "red", "ids": ["00"]})
    finally:
        service.policies = kept
    assert answer.status_code == 409
    assert "judges those of other" in answer.json()["detail"]


def test_an_image_that_cannot_be_read_is_a_failure_in_its_place(
    here: TestClient, client: Client, folder: Path, tmp_path: Path
) -> None:
    bad = "data:image/png;base64,aGVsbG8="
    answer = post_json(here, "/v1/moderate", images=[bad, data_uri(folder / "a.png")], policy="red")
    assert [each["image"] for each in answer["results"]] == ["images[1]"]
    assert [each["image"] for each in answer["failures"]] == ["images[0]"]
    assert set(answer) == {"model", "policy", "fit", "results", "failures"}
    (tmp_path / "bad.png").write_bytes(b"hello")
    found = client.moderate([tmp_path / "bad.png", folder / "a.png"], "red")
    assert [each["image"] for each in found] == [str(folder / "a.png")]
    assert [(each.index, each.source) for each in found.failures] == [(0, str(tmp_path / "bad.png"))]
    with pytest.raises(ImageError, match=r"bad\.png"):
        client.moderate(tmp_path / "bad.png", "red")


def test_what_is_refused(here: TestClient, client: Client, folder: Path) -> None:
    with pytest.raises(ServerError, match="no policy 'rde' here; did you mean 'red'") as error:
        client.moderate(folder / "a.png", "rde")
    assert error.value.status == 404
    image = data_uri(folder / "a.png")
    for body, status in (
        ({"image": image}, 422),
        ({"policy": "red"}, 422),
        ({"policy": "red", "images": [image] * 5}, 413),
        ({"policy": "red", "image": image, "images": [image]}, 422),
        ({"policy": "red", "image": image, "polcy": "x"}, 422),
    ):
        answer = here.post("/v1/moderate", json=body)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"


def test_what_cannot_be_served_is_refused_at_the_start(folder: Path, tmp_path: Path) -> None:
    settings = Settings()
    with pytest.raises(ConfigError, match="no such policy; did you mean 'people'"):
        open_service(dataclasses.replace(settings, policies=("peopl",)), [str(folder / "photos.tandem")])
    with pytest.raises(ConfigError, match="with the name 'people' is served already"):
        open_service(dataclasses.replace(settings, policies=("people", "people")), [str(folder / "photos.tandem")])
    (tmp_path / "red.toml").write_text(POLICY.replace("0.25", "0.5"))
    (tmp_path / "red.fit.json").write_bytes((folder / "red.fit.json").read_bytes())
    with pytest.raises(DataError, match="an earlier version of the policy"):
        open_service(
            dataclasses.replace(settings, policies=(str(tmp_path / "red.toml"),)), [str(folder / "photos.tandem")]
        )


def test_a_policy_is_served_with_the_model_of_its_fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = SimpleNamespace(fingerprint=read_fit(folder / "red.fit.json").model_fingerprint)
    first = SimpleNamespace(fingerprint="0" * 64)
    monkeypatch.setattr("tandem.serve.policies.Moderator", lambda opened, model: model)
    served = ServedPolicies.open([str(folder / "red.toml"), "people"], [first, wanted])  # type: ignore[list-item]
    assert served.moderators == {"red": wanted, "people": first}
