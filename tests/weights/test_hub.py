"""Names to files: the hub through a stand-in server on loopback, OpenAI's files with resume and checksum.

The stand-in speaks the part of the hub's protocol that downloads need (HEAD and GET on /resolve/, ETag, commit and
length headers, ranges, error codes); huggingface_hub itself is real.
"""

import hashlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import weights_toys as toys

from tandem import weights
from tandem.config import PUBLISHED
from tandem.errors import HubError
from tandem.fetch import download
from tandem.weights import expected_shapes, hub, openai, published
from tandem.weights.names import to_transformers
from tandem.weights.safetensors_file import write_safetensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


class Server:
    """A stand-in hub: repositories are folders; what was asked of it is recorded."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[str] = []
        self.status: dict[str, tuple[int, dict[str, str]]] = {}  # a path's beginning -> an error for it
        self.break_after: list[int] = []  # bytes after which the next large downloads are cut
        self.with_ranges = True
        handler = type("Handler", (_Handler,), {"server_state": self})
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def downloaded(self) -> list[str]:
        return [Path(path).name for method, path in self.requests if method == "GET"]


class _Handler(http.server.BaseHTTPRequestHandler):
    server_state: Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        state = self.server_state
        state.requests.append((self.command, self.path))
        for beginning, (status, headers) in state.status.items():
            if self.path.startswith(beginning):
                return self._send(status, headers, b"")
        parts = self.path.strip("/").split("/")
        repository, file = "/".join(parts[:2]), None
        if len(parts) >= 5 and parts[2] == "resolve":
            if not (state.root / repository).is_dir():
                return self._send(404, {"X-Error-Code": "RepoNotFound"}, b"")
            commit = {"main": COMMIT, COMMIT: COMMIT, "v2": OTHER, OTHER: OTHER}.get(parts[3])
            if commit is None:
                return self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"")
            file = state.root / repository / "/".join(parts[4:])
            headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
            if not file.is_file():
                return self._send(404, {**headers, "X-Error-Code": "EntryNotFound"}, b"")
        else:
            file, headers = state.root / self.path.strip("/"), {}
            if not file.is_file():
                return self._send(404, {}, b"")
        content = file.read_bytes()
        headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        asked = self.headers.get("Range")
        if asked and state.with_ranges:
            state.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").split("-")[0])
            if start >= len(content):
                return self._send(416, {}, b"")
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return self._send(206, headers, content[start:])
        return self._send(200, headers, content)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server_state.break_after and status < 300 and len(body) > 100_000:
            self.wfile.write(body[: self.server_state.break_after.pop(0)])
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(body)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    server = Server(tmp_path / "served")
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def endpoint(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The hub is the stand-in, and every cache is empty."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))
    return server


def publish(server: Server, name: str, to: Any, **config: Any) -> weights.Checkpoint:
    checkpoint = toys.checkpoint(toys.vit(**config))
    weights.write(checkpoint, server.root / name, to)
    (server.root / name / "tf_model.h5").write_bytes(b"not asked for")
    return checkpoint


# --- the hub ---------------------------------------------------------------------------------------------------------


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
    theirs = to_transformers(checkpoint.tensors)
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
    with pytest.raises(HubError, match=r"openai/clip-vit-base-patch33: not found on .*near: openai/clip-vit-base") as e:
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
    with pytest.raises(HubError, match=r"org/model: HF_HUB_OFFLINE is set, and .* does not hold a model") as error:
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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", nowhere)
    toys.same(weights.read("org/model").tensors, checkpoint.tensors)
    with pytest.raises(HubError, match=rf"org/other: {nowhere} cannot be reached .*check the network or HF_ENDPOINT"):
        weights.read("org/other")


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


# --- OpenAI's files --------------------------------------------------------------------------------------------------


@pytest.fixture
def file(server: Server) -> tuple[str, bytes, str]:
    content = os.urandom(3 << 20)
    (server.root / "ViT-toy.pt").write_bytes(content)
    return f"{server.url}/ViT-toy.pt", content, hashlib.sha256(content).hexdigest()


def test_a_download_is_whole_and_counted(server: Server, file: tuple[str, bytes, str], tmp_path: Path) -> None:
    url, content, digest = file
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "cache" / "toy.pt"
    download(url, target, digest, progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == content
    assert seen[-1] == (len(content), len(content))
    assert [path.name for path in target.parent.iterdir()] == ["toy.pt"]


def test_a_broken_download_continues_where_it_stopped(
    server: Server, file: tuple[str, bytes, str], tmp_path: Path
) -> None:
    url, content, digest = file
    server.break_after = [1_000_000, 500_000]
    download(url, tmp_path / "toy.pt", digest, pause_s=0)
    assert (tmp_path / "toy.pt").read_bytes() == content
    assert len(server.ranges) == 2
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in server.ranges]
    assert 0 < starts[0] <= 1_000_000
    assert starts[0] < starts[1] <= 1_500_000


def test_a_later_run_continues_an_earlier_one(server: Server, file: tuple[str, bytes, str], tmp_path: Path) -> None:
    url, content, digest = file
    server.break_after = [400_000] * 5
    with pytest.raises(HubError, match=r"cannot be downloaded.*are kept in .*toy.pt.part.*run again"):
        download(url, tmp_path / "toy.pt", digest, pause_s=0)
    assert not (tmp_path / "toy.pt").exists()
    kept = (tmp_path / "toy.pt.part").stat().st_size
    assert kept > 0
    server.break_after = []
    download(url, tmp_path / "toy.pt", digest, pause_s=0)
    assert (tmp_path / "toy.pt").read_bytes() == content
    assert server.ranges[-1] == f"bytes={kept}-"


def test_a_server_without_ranges_starts_again(server: Server, file: tuple[str, bytes, str], tmp_path: Path) -> None:
    url, content, digest = file
    server.with_ranges = False
    (tmp_path / "toy.pt.part").write_bytes(content[:1000])
    download(url, tmp_path / "toy.pt", digest, pause_s=0)
    assert (tmp_path / "toy.pt").read_bytes() == content


def test_a_damaged_part_is_replaced(server: Server, file: tuple[str, bytes, str], tmp_path: Path) -> None:
    url, content, digest = file
    for damaged in (b"x" * 1000, content + b"x", b"x" * len(content)):
        (tmp_path / "toy.pt.part").write_bytes(damaged)
        download(url, tmp_path / "toy.pt", digest, pause_s=0)
        assert (tmp_path / "toy.pt").read_bytes() == content
        (tmp_path / "toy.pt").unlink()


def test_a_whole_part_needs_no_more_bytes(server: Server, file: tuple[str, bytes, str], tmp_path: Path) -> None:
    url, content, digest = file
    (tmp_path / "toy.pt.part").write_bytes(content)
    download(url, tmp_path / "toy.pt", digest, pause_s=0)
    assert (tmp_path / "toy.pt").read_bytes() == content


def test_a_wrong_checksum_is_refused_and_thrown_away(
    server: Server, file: tuple[str, bytes, str], tmp_path: Path
) -> None:
    url, _, digest = file
    with pytest.raises(HubError, match=r"wrong checksum: expected SHA-256 0{64}, came " + digest):
        download(url, tmp_path / "toy.pt", "0" * 64, pause_s=0)
    assert list(tmp_path.glob("toy*")) == []


def test_a_missing_file_and_a_dead_server_are_one_line(server: Server, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="the server says 404"):
        download(f"{server.url}/nothing.pt", tmp_path / "a.pt", "0" * 64, pause_s=0)
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(HubError, match=r"cannot be downloaded: .*check the network"):
        download(f"{server.url}/toy.pt", tmp_path / "a.pt", "0" * 64, pause_s=0)


def test_two_processes_download_once(server: Server, file: tuple[str, bytes, str], tmp_path: Path) -> None:
    url, content, digest = file
    program = (
        "import sys; from pathlib import Path; from tandem.fetch import download; "
        "download(sys.argv[1], Path(sys.argv[2]), sys.argv[3])"
    )
    command = [sys.executable, "-c", program, url, str(tmp_path / "toy.pt"), digest]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert (tmp_path / "toy.pt").read_bytes() == content
    assert len(server.downloaded()) == 1


@pytest.fixture
def openai_server(endpoint: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """OpenAI's address leads to the stand-in, which serves a toy archive under ViT-B/32's name."""
    config = toys.vit()
    path = endpoint.root / "ViT-B-32.pt"
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        toys.save_torchscript(
            path,
            toys.to_torch(toys.tensors(config, "float16")),
            {"input_resolution": 32, "context_length": 16, "vocab_size": toys.VOCABULARY},
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (endpoint.root / digest).mkdir()
    path.rename(endpoint.root / digest / path.name)
    monkeypatch.setattr(openai, "OPENAI_ROOT", endpoint.url)
    monkeypatch.setitem(published.OPENAI_FILES, "ViT-B/32", ("ViT-B-32.pt", digest))
    return endpoint


@pytest.mark.parametrize("name", ["ViT-B/32", "ViT-B-32", "vit-b/32"])
def test_a_published_name_is_downloaded_once_and_read(
    openai_server: Server, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = toys.tokenizer(toys.vit())
    read = weights.read(name, tokenizer=words)
    toys.same(read.tensors, toys.tensors(toys.vit(), "float16"))
    assert (read.config.name, read.config.licence) == ("ViT-B/32", "MIT")
    assert read.config.notes == {}
    assert "ViT-B-32.pt: " in capsys.readouterr().err
    openai_server.requests.clear()
    weights.read(name, tokenizer=words)
    assert openai_server.requests == []
    known = {model.name: model for model in weights.known_models()}
    assert known["ViT-B/32"].cached
    assert not known["RN50"].cached


def test_a_published_name_in_hugging_faces_cache_is_used_aloud(openai_server: Server) -> None:
    repository = published.OPENAI_ON_HUB["ViT-B/32"]
    checkpoint = publish(openai_server, repository, "transformers")
    weights.read(repository)
    openai_server.requests.clear()
    read = weights.read("ViT-B/32")
    toys.same(read.tensors, checkpoint.tensors)
    assert "Hugging Face's cache" in read.config.notes["source"]
    assert openai_server.requests == []
    known = {model.name: model for model in weights.known_models()}
    assert known[repository].cached


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("ViT-L/14@336", "ViT-L/14@336"),
        ("ViT-L/14@336px", "ViT-L/14@336"),
        ("ViT-L-14-336", "ViT-L/14@336"),
        ("vit-l-14-336px", "ViT-L/14@336"),
        ("rn50X64", "RN50x64"),
        ("ViT-B/33", None),
        ("", None),
    ],
)
def test_published_names_and_their_spellings(typed: str, name: str | None) -> None:
    assert published.published_name(typed) == name


def test_the_table_agrees_with_the_configurations() -> None:
    assert set(published.OPENAI_FILES) == set(PUBLISHED)
    known = {model.name: model for model in weights.known_models()}
    assert len(known) == len(weights.known_models())
    assert set(known) | set(published.SHIPPED) == set(published.NAMES)
    for name in PUBLISHED:
        shapes = expected_shapes(PUBLISHED[name]).items()
        parameters = sum(_size(shape) for key, shape in shapes if "running_" not in key)
        assert known[name].parameters == parameters
    assert known["laion/CLIP-ViT-B-32-laion2B-s34B-b79K"].parameters == known["ViT-B/32"].parameters
    assert known["laion/CLIP-ViT-L-14-laion2B-s32B-b82K"].parameters == known["ViT-L/14"].parameters
    size = known["ViT-B/32"].download_bytes
    assert size is not None
    assert abs(size / 353_976_522 - 1) < 0.003


def _size(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total
