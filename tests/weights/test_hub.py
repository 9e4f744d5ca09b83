"""Names to files: the hub through a stand-in server on loopback."""

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest
from support import weights_toys as toys
from support.hub_server import COMMIT, OTHER, Server, endpoint, publish, server
from support.processes import unused_port

from tandem import weights
from tandem.errors import HubError
from tandem.weights import hub
from tandem.weights.names import renamed_to
from tandem.weights.safetensors_file import write_safetensors
from tandem.weights.transformers_types import MODEL_TYPES

pytestmark = pytest.mark.slow

__all__ = ["endpoint", "server"]  # fixtures


@pytest.mark.parametrize("to", ["tandem", "transformers", "open_clip"])
@pytest.mark.parametrize("prefix", ["", "hf-hub:"])
def test_a_hub_name_of_any_layout_is_downloaded_and_read(endpoint: Server, to: Any, prefix: str) -> None:
    checkpoint = publish(endpoint, "org/model", to)
    read = weights.read(f"{prefix}org/model")
    toys.same(read.tensors, checkpoint.tensors)
    assert weights.fingerprint(read) == weights.fingerprint(checkpoint)
    assert read.config.name == "org/model"
    assert "tf_model.h5" not in endpoint.downloaded()
    assert "README.md" not in endpoint.downloaded()
    weight_files = [name for name in endpoint.downloaded() if name.endswith((".safetensors", ".bin"))]
    assert len(weight_files) == 1


def test_a_second_reading_downloads_nothing_and_offline_asks_nothing(
    endpoint: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = publish(endpoint, "org/model", "transformers")
    weights.read("org/model")
    endpoint.requests.clear()
    weights.read("org/model")
    assert endpoint.downloaded() == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    endpoint.requests.clear()
    toys.same(weights.read("org/model").tensors, checkpoint.tensors)
    assert endpoint.requests == []


def test_all_files_come_from_one_commit(endpoint: Server) -> None:
    publish(endpoint, "org/model", "transformers")
    weights.read("org/model")
    revisions = [path.split("/")[4] for _, path in endpoint.requests]
    assert set(revisions) == {"main", COMMIT}
    first = revisions.index(COMMIT)
    assert "main" not in revisions[first:]


def test_a_broken_hub_download_continues(endpoint: Server) -> None:
    checkpoint = publish(endpoint, "org/model", "tandem")
    endpoint.break_after = [300_000]
    toys.same(weights.read("org/model").tensors, checkpoint.tensors)
    assert endpoint.break_after == []
    assert endpoint.downloaded().count("model.safetensors") == 2


def test_a_revision_can_be_named(endpoint: Server) -> None:
    publish(endpoint, "org/model", "tandem")
    folder = hub.fetch("org/model", "v2")
    assert folder.name == OTHER
    assert weights.read("org/model@v2").config.name == "org/model"
    with pytest.raises(HubError, match=r"org/model@v9: org/model has no revision 'v9'"):
        weights.read("org/model@v9")


def test_open_clip_is_preferred_where_both_layouts_are(endpoint: Server) -> None:
    checkpoint = publish(endpoint, "org/both", "transformers")
    weights.write(checkpoint, endpoint.root / "extra", "open_clip")
    for file in (endpoint.root / "extra").glob("open_clip*"):
        shutil.copy(file, endpoint.root / "org/both" / file.name)
    toys.same(weights.read("org/both").tensors, checkpoint.tensors)
    assert "open_clip_model.safetensors" in endpoint.downloaded()
    assert "model.safetensors" not in endpoint.downloaded()


def test_shards_are_downloaded_by_their_index(endpoint: Server) -> None:
    checkpoint = publish(endpoint, "org/shards", "transformers")
    folder = endpoint.root / "org/shards"
    theirs = renamed_to(checkpoint.tensors, MODEL_TYPES["clip"].names)
    names = sorted(theirs)
    halves = {"model-00001-of-00002.safetensors": names[:40], "model-00002-of-00002.safetensors": names[40:]}
    for file, part in halves.items():
        write_safetensors(folder / file, {name: theirs[name] for name in part}, {"format": "pt"})
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    toys.same(weights.read("org/shards").tensors, checkpoint.tensors)
    (folder / "model-00002-of-00002.safetensors").unlink()
    shutil.rmtree(os.environ["HF_HOME"])
    with pytest.raises(HubError, match=r"org/shards.*model-00002-of-00002.safetensors, a shard of"):
        weights.read("org/shards")


def test_vocabulary_and_merges_serve_without_tokenizer_json(endpoint: Server) -> None:
    checkpoint = publish(endpoint, "org/old", "transformers")
    (endpoint.root / "org/old/tokenizer.json").unlink()
    read = weights.read("org/old")
    assert read.tokenizer(["a cat"]).tolist() == checkpoint.tokenizer(["a cat"]).tolist()


def test_an_unknown_repository_hints_at_near_names(endpoint: Server) -> None:
    with pytest.raises(
        HubError, match=r"patch33: no such folder here, and not found on .*near: openai/clip-vit-base"
    ) as e:
        weights.read("openai/clip-vit-base-patch33")
    assert "\n" not in str(e.value)


def test_a_gated_repository_says_what_to_do(endpoint: Server) -> None:
    endpoint.status["/org/gated"] = (403, {"X-Error-Code": "GatedRepo"})
    with pytest.raises(HubError, match=r"org/gated: gated: accept its conditions at .*hf auth login"):
        weights.read("org/gated")


def test_a_repository_that_holds_no_clip(endpoint: Server) -> None:
    (endpoint.root / "org/data").mkdir(parents=True)
    with pytest.raises(HubError, match=r"org/data.*does not hold a model \(config.json"):
        weights.read("org/data")
    publish(endpoint, "org/empty", "transformers")
    (endpoint.root / "org/empty/model.safetensors").unlink()
    with pytest.raises(HubError, match=r"org/empty.*does not hold weights"):
        weights.read("org/empty")


def test_offline_and_not_cached(endpoint: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        HubError, match=r"org/model: no such folder here, and HF_HUB_OFFLINE is set, and .* does not hold a model"
    ) as error:
        weights.read("org/model")
    assert "\n" not in str(error.value)
    with pytest.raises(HubError, match=r"RN50 is not in .* HF_HUB_OFFLINE is set"):
        weights.read("RN50")
    assert endpoint.requests == []


def test_an_unreachable_hub_serves_what_is_cached_and_says_why_otherwise(
    endpoint: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = publish(endpoint, "org/model", "tandem")
    weights.read("org/model")
    nowhere = f"http://127.0.0.1:{unused_port()}"
    monkeypatch.setenv("HF_ENDPOINT", nowhere)
    toys.same(weights.read("org/model").tensors, checkpoint.tensors)
    with pytest.raises(
        HubError, match=rf"org/other: no such folder here, and {nowhere} cannot be reached .*HF_ENDPOINT"
    ):
        weights.read("org/other")
    with pytest.raises(HubError, match=rf"^org/other: {nowhere} cannot be reached"):
        weights.read("hf-hub:org/other")


def test_a_server_error_is_one_line(endpoint: Server) -> None:
    endpoint.status["/org/broken"] = (500, {})
    with pytest.raises(HubError, match=r"org/broken: .* cannot be reached \(the server says 500\)") as error:
        weights.read("org/broken")
    assert "\n" not in str(error.value)


def test_the_endpoint_in_the_environment_of_a_process_is_used(endpoint: Server) -> None:
    publish(endpoint, "org/model", "tandem")
    program = "import tandem.weights as w; print(w.read('hf-hub:org/model').config.name)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "org/model"
    assert any(name == "model.safetensors" for name in endpoint.downloaded())


def test_names_that_are_not_alike_are_no_hint(endpoint: Server) -> None:
    """A mistyped path of the form of a hub name: `models/siglip` means none of the published models."""
    with pytest.raises(HubError, match="models/siglip: no such folder here, and not found on") as error:
        weights.read("models/siglip")
    assert "near" not in str(error.value)
