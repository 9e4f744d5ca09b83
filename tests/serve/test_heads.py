"""Heads that a server offers, and corrections that it keeps: the routes, the client, and the folder."""

import dataclasses
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from support.serving import client_of, data_uri, post_json, toy_collection

import tandem
from tandem.client import Client
from tandem.datasets import open_dataset
from tandem.errors import HeadError, ServerError, TandemError, TextError
from tandem.heads.head import Head
from tandem.heads.head_file import write_head
from tandem.model import Model
from tandem.serve.app import build_app
from tandem.serve.collections.quotas import QuotaError
from tandem.serve.corrections import Corrections, CorrectionsFullError, check_label
from tandem.serve.service import Service, open_service
from tandem.serve.settings import Settings

ACCURACY = {"value": 0.9, "interval": [0.7, 1.0], "n": 9, "chance": 0.3, "unit": "share"}
CARD = {"model": "toy", "accuracy": ACCURACY, "data": {"source": "/home/me/secret"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("served")
    toy_collection(here)
    model = tandem.load(here / "model")
    write_head(head_of(model), here / "animals.tandem-head")
    return here


def head_of(model: Model, fingerprint: str = "") -> Head:
    weights = np.random.default_rng(1).normal(size=(3, model.config.embed_dim)).astype(np.float32) * 5
    bias = np.array([0, 2, -1], np.float32)
    return Head(("cat", "dog", "cow"), weights, bias, fingerprint or model.fingerprint, "clap", CARD)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    settings = Settings(batch_wait_s=0, heads=(folder / "animals.tandem-head",), corrections=folder / "corrections")
    made = open_service(settings, [str(folder / "photos.tandem")])
    yield made
    made.close()


@pytest.fixture
def here(service: Service) -> TestClient:
    return TestClient(build_app(service), base_url="http://127.0.0.1:8000")


@pytest.fixture
def client(here: TestClient) -> Client:
    return client_of(here)


def test_the_heads_are_listed_without_the_files_they_come_from(client: Client) -> None:
    (listed,) = client.heads()
    assert (listed["name"], listed["classes"], listed["method"]) == ("animals", ["cat", "dog", "cow"], "clap")
    assert listed["accuracy"] == CARD["accuracy"]
    assert "secret" not in str(listed)


def test_classify_with_a_head_answers_as_the_model_does(folder: Path, client: Client) -> None:
    files = [folder / "photos" / f"{number}.png" for number in (1, 2)]
    model = tandem.load(folder / "model")
    mine, theirs = model.classify(files, head=folder / "animals.tandem-head"), client.classify(files, head="animals")
    assert (theirs.labels, theirs.scoring, theirs.best) == (mine.labels, "head", mine.best)
    np.testing.assert_allclose(theirs.probabilities, mine.probabilities, atol=1e-5)


def test_label_with_a_head_answers_as_the_collection_does(folder: Path, client: Client) -> None:
    with tandem.open(folder / "photos.tandem") as photos:
        mine = photos.label(head=folder / "animals.tandem-head", k=3)
        by_image = dict(photos.iter_labels(head=head_of(photos.model), k=1))
        stored = photos.store.get([mine["cow"][0].id])
        assert stored.vectors is not None
        logits = head_of(photos.model).logits(stored.vectors)[0]
    theirs = client.label(head="animals", k=3)
    assert list(theirs) == ["cat", "dog", "cow"]
    for label, row in mine.items():
        assert [image.id for image in theirs[label]] == [image.id for image in row]
        shares = [image.probability for image in row]
        assert [image.probability for image in theirs[label]] == pytest.approx(shares, rel=1e-3)
    assert mine["cow"][0].score == pytest.approx(float(logits[2]), abs=1e-4)  # a logit, bias included
    best = mine["dog"][0]
    assert by_image[best.id][0] == ("dog", pytest.approx(best.probability, abs=1e-5))


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({"head": "animal"}, 404, "did you mean 'animals'"),
        ({"head": "../animals"}, 404, "no head"),
        ({"head": "animals", "labels": ["cat"]}, 422, "either labels or head"),
        ({}, 422, "either labels or head"),
        ({"head": "animals", "templates": "{}"}, 422, "for labels"),
        ({"head": "animals", "independent": True}, 422, "for labels"),
        ({"head": {"weights": [1]}}, 422, "head"),
    ],
)
def test_requests_that_are_refused(
    folder: Path, here: TestClient, body: dict[str, object], status: int, expected: str
) -> None:
    for path, more in (("/v1/classify", {"image": data_uri(folder / "photos" / "1.png")}), ("/v1/label", {})):
        answer = here.post(path, json={**body, **more})
        assert answer.status_code == status, answer.text
        assert expected in answer.text


def test_labels_or_a_head_is_asked_for_in_one_way(folder: Path, client: Client) -> None:
    """Of a model, a collection and a server, in the same words; nothing is sent that would be refused."""
    photo = folder / "photos" / "1.png"
    model = tandem.load(folder / "model")
    with tandem.open(folder / "photos.tandem") as photos:
        for ask in (lambda **given: model.classify(photo, **given), lambda **given: client.classify(photo, **given)):
            with pytest.raises(TextError, match="either labels or a head, got neither"):
                ask()
            with pytest.raises(TextError, match="either labels or a head, got both"):
                ask(labels=["a"], head="animals")
        for label in (photos.label, client.label):
            for options in ({"templates": "{}"}, {"language": "de"}, {"long": "split"}, {"independent": True}):
                with pytest.raises(TextError, match="are for labels; a head has its own classes"):
                    label(head="animals", **options)


def test_a_head_of_another_model_keeps_the_server_from_starting(folder: Path, tmp_path: Path) -> None:
    other = write_head(head_of(tandem.load(folder / "model"), "d" * 64), tmp_path / "other.tandem-head")
    for heads, expected in (((other,), "d{12}"), ((folder / "animals.tandem-head",) * 2, "served already")):
        with pytest.raises(HeadError, match=expected):
            open_service(Settings(heads=heads), [], model=folder / "model")


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ({"accuracy": "high"}, "card.accuracy: expected"),
        ({"accuracy": {"value": 0.9, "n": 9}}, "card.accuracy"),
        ({"gain": ACCURACY | {"interval": [1]}}, r"card.gain.interval"),
        ({"shots": [1]}, "card.shots"),
    ],
)
def test_a_card_that_cannot_be_shown(folder: Path, tmp_path: Path, card: dict[str, object], expected: str) -> None:
    head = dataclasses.replace(head_of(tandem.load(folder / "model")), card=card)
    file = write_head(head, tmp_path / "odd.tandem-head")
    with pytest.raises(HeadError, match=expected):
        open_service(Settings(heads=(file,)), [], model=folder / "model")


# --- corrections -----------------------------------------------------------------------------------------------------


def test_a_correction_is_kept_and_the_last_label_stands(folder: Path, here: TestClient, client: Client) -> None:
    photo = folder / "photos" / "4.png"
    assert client.correct(photo, " golden \n retriever ") == {"golden retriever": 1}
    assert client.correct(photo, "dog") == {"dog": 1}
    (kept,) = (folder / "corrections").glob("*/*")
    assert kept.parent.name == "dog"
    assert kept.read_bytes() == photo.read_bytes()
    hit = post_json(here, "/v1/search", text="a", k=1)["hits"][0]
    answer = here.post("/v1/corrections", json={"id": hit["id"], "label": "cat"})
    assert answer.status_code == 201
    assert answer.json()["labels"] == {"cat": 1}  # of its own label alone: there may be a thousand
    assert here.get("/v1/corrections").json()["labels"] == {"cat": 1, "dog": 1}
    assert next(iter((folder / "corrections" / "cat").iterdir())).read_bytes() == Path(hit["path"]).read_bytes()


def test_corrections_that_are_refused(folder: Path, here: TestClient, client: Client) -> None:
    before = sorted((folder / "corrections").rglob("*"))
    for label in (
        "../../etc",
        "a/b",
        "a\\b",
        "..",
        ".hidden",
        "CON",
        "nul.txt",
        "a\0b",
        "a\u202eb",
        "x" * 151,
        "\ud800",
        "_",
        "a\u00adb",
        "\ufeffcat",
        "\u3164",
        "train",
        "Val",
        "test2017",
    ):
        with pytest.raises(TandemError, match="label"):
            check_label(label)
    with pytest.raises(ServerError, match="names a split"):
        client.correct(folder / "photos" / "1.png", "TEST")
    with pytest.raises(ServerError, match="plain name"):
        client.correct(folder / "photos" / "1.png", "../../etc")
    assert here.post("/v1/corrections", json={"image": "data:,text", "label": "cat"}).status_code == 422
    assert here.post("/v1/corrections", json={"id": "none", "label": "cat"}).status_code == 404
    assert here.post("/v1/corrections", json={"label": "cat"}).status_code == 422
    assert (
        here.post("/v1/corrections", json={"id": "a", "label": "cat"}, headers={"origin": "http://x.y"}).status_code
        == 403
    )
    assert sorted((folder / "corrections").rglob("*")) == before
    closed = open_service(Settings(), [], model=folder / "model")
    without = TestClient(build_app(closed), base_url="http://127.0.0.1:8000")
    assert without.get("/v1/corrections").json() == {"accepted": False, "max_label_bytes": 150, "labels": {}}
    answer = without.post("/v1/corrections", json={"image": data_uri(folder / "photos" / "1.png"), "label": "cat"})
    assert answer.status_code == 403
    assert "--corrections" in answer.text
    closed.close()


def test_a_key_is_asked_for(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a-secret-of-20-signs\n")
    locked = open_service(Settings(keys_file=tmp_path / "keys", corrections=tmp_path / "c"), [], model=folder / "model")
    there = TestClient(build_app(locked), base_url="http://127.0.0.1:8000")
    body = {"image": data_uri(folder / "photos" / "1.png"), "label": "cat"}
    assert there.post("/v1/corrections", json=body).status_code == 401
    assert there.post("/v1/corrections", json=body, headers={"x-api-key": "a-secret-of-20-signs"}).status_code == 201
    locked.close()


def test_a_key_fills_half_of_the_folder_at_most(tmp_path: Path) -> None:
    kept = Corrections(tmp_path / "c", key_images=2)
    for content in (b"1", b"2"):
        kept.keep(content, "PNG", "cat", "one")
    with pytest.raises(QuotaError, match="at most 2 images; this one has added 2"):
        kept.keep(b"3", "PNG", "cat", "one")
    assert kept.keep(b"1", "PNG", "dog", "one").replaced == "cat"  # what is there may still be corrected
    kept.keep(b"3", "PNG", "cat", "another")
    again = Corrections(tmp_path / "c", key_images=2)  # after a restart, too
    with pytest.raises(QuotaError):
        again.keep(b"4", "PNG", "cat", "one")
    again.keep(b"4", "PNG", "cat", "another")
    again.keep(b"5", "PNG", "cat")  # without keys the folder alone is the bound
    assert again.counts() == {"cat": 4, "dog": 1}


def test_the_folder_is_bounded_and_counted_again(tmp_path: Path) -> None:
    kept = Corrections(tmp_path / "c", max_images=2, max_bytes=10)
    kept.keep(b"1234", "PNG", "cat")
    with pytest.raises(CorrectionsFullError, match="MB"):
        kept.keep(b"12345678", "PNG", "cat")
    kept.keep(b"5678", "JPEG", "cat")
    again = Corrections(tmp_path / "c", max_images=2)
    assert again.counts() == {"cat": 2}
    with pytest.raises(CorrectionsFullError, match="2 images"):
        again.keep(b"9", "PNG", "dog")
    assert again.keep(b"1234", "PNG", "dog").replaced == "cat"  # one that is there may still be corrected
    moved = next((tmp_path / "c" / "dog").iterdir())
    os.remove(moved)  # by hand, while the server runs
    again.keep(b"1234", "PNG", "cow")
    assert Corrections(tmp_path / "c").counts() == {"cat": 1, "cow": 1}
    with pytest.raises(CorrectionsFullError, match="MB"):
        Corrections(tmp_path / "c", max_bytes=10).keep(b"abc", "PNG", "cat")  # beside the eight bytes of before
    (tmp_path / "file").write_text("")
    with pytest.raises(TandemError, match="cannot be kept"):
        Corrections(tmp_path / "file")


def test_labels_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.serve.corrections.MAX_LABELS", 2)
    kept = Corrections(tmp_path / "c")
    for content, label in ((b"1", "cat"), (b"2", "dog"), (b"3", "Cat")):
        kept.keep(content, "PNG", label)
    for corrections in (kept, Corrections(tmp_path / "c")):
        with pytest.raises(CorrectionsFullError, match="2 labels"):
            corrections.keep(b"4", "PNG", "cow")
        with pytest.raises(CorrectionsFullError, match="2 labels"):
            corrections.keep(b"1", "PNG", "cow")  # one of two cats
    assert kept.keep(b"2", "PNG", "cow").counts == {"cow": 1}  # the only dog
    assert kept.keep(b"2", "PNG", "dog").counts == {"dog": 1}
    assert sorted(path.name for path in (tmp_path / "c").iterdir() if path.is_dir()) == ["cat", "dog"]


def test_what_is_kept_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image, its name, and the name of its folder: before the answer says that it is kept."""
    synced: set[int] = set()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.add(os.fstat(handle).st_ino), fsync(handle))[1])
    kept = Corrections(tmp_path / "c")
    for label in ("cat", "dog"):  # new, and moved
        synced.clear()
        kept.keep(b"1", "PNG", label)
        (file,) = (tmp_path / "c" / label).iterdir()
        wanted = {file, file.parent, tmp_path / "c"} if label == "cat" else {file.parent, tmp_path / "c"}
        assert {path.stat().st_ino for path in wanted} <= synced


def test_labels_that_a_data_set_would_not_tell_apart_are_one(tmp_path: Path) -> None:
    """The folder can be learnt from after every correction: no two classes of one name, and none without images."""
    by_hand = tmp_path / "c" / "Tree_Frog" / "mine.png"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(b"0")
    kept = Corrections(tmp_path / "c")
    assert kept.keep(b"1", "PNG", "tree frog").counts == {"Tree_Frog": 2}
    assert kept.keep(b"2", "PNG", "caf\u00e9").counts == {"caf\u00e9": 1}
    assert kept.keep(b"3", "PNG", "CAFE\u0301").counts == {"caf\u00e9": 2}
    assert kept.keep(b"4", "PNG", "tpyo").label == "tpyo"
    moved = kept.keep(b"4", "PNG", "Cafe\u0301")
    assert (moved.label, moved.replaced, moved.counts) == ("caf\u00e9", "tpyo", {"caf\u00e9": 3})
    assert kept.keep(b"4", "PNG", "Typo").label == "Typo"
    assert open_dataset(tmp_path / "c").classes == ("Tree Frog", "Typo", "caf\u00e9")
    assert kept.counts() == Corrections(tmp_path / "c").counts() == {"Tree_Frog": 2, "Typo": 1, "caf\u00e9": 2}


def test_a_disk_that_is_full(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of what was not kept: no folder, and no bytes that are counted."""

    def full(path: Path, content: bytes, *, fsync: bool) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    server = open_service(Settings(corrections=tmp_path / "c", read_only=True), [], model=folder / "model")
    assert server.corrections is not None
    server.corrections.max_bytes = (folder / "photos" / "1.png").stat().st_size
    there = TestClient(build_app(server), base_url="http://127.0.0.1:8000")
    body = {"image": data_uri(folder / "photos" / "1.png"), "label": "cat"}
    with monkeypatch.context() as patched:
        patched.setattr("tandem.serve.corrections.write_bytes", full)
        for _ in range(2):
            answer = there.post("/v1/corrections", json=body)
            assert answer.status_code == 507
            assert "No space left on device" in answer.text
            assert str(tmp_path) not in answer.text
    assert [path.name for path in (tmp_path / "c").iterdir()] == [".uploads.sqlite"]
    assert there.post("/v1/corrections", json=body).status_code == 201  # although --read-only: no collection changes
    server.close()
