"""The settings of a server: what they refuse, and what is said where a folder is missing."""

from pathlib import Path

import pytest
from support.serving import data_uri, toy_collection

from tandem.errors import ConfigError
from tandem.serve.settings import Settings


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("port", 70_000),
        ("port", -1),
        ("http", "h3"),
        ("max_batch", 0),
        ("concurrency", 1.5),
        ("batch_wait_s", -0.1),
        ("deadline_s", 0.0),
        ("deadline_s", float("nan")),
        ("read_only", "yes"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_its_name(setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^{setting}: expected "):
        Settings(**{setting: value})  # type: ignore[arg-type]


def test_settings_at_their_limits() -> None:
    made = Settings(port=0, batch_wait_s=0, max_batch=1, deadline_s=1, keys_file=Path("keys.txt"), http="h11")
    assert (made.port, made.batch_wait_s, made.deadline_s) == (0, 0, 1)


def test_a_collection_without_a_folder_for_originals_says_what_to_start_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi")
    from starlette.testclient import TestClient

    from tandem.serve.app import build_app
    from tandem.serve.service import open_service

    monkeypatch.setattr("tandem.serve.collections.originals.folder_for", lambda *_: None)  # as of a bucket
    app = build_app(open_service(Settings(), [str(toy_collection(tmp_path))]))
    with TestClient(app, base_url="http://localhost") as client:
        answer = client.post("/v1/images", json={"image": data_uri(tmp_path / "photos" / "0.png")})
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        "photos has no folder for originals: start tandem serve with --uploads FOLDER",
    )
