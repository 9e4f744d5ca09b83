"""Large files: whole, continued where they stopped, checked; by one process at a time."""

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import pytest
from support.hub_server import Server, server

from tandem.errors import HubError
from tandem.fetch import download

__all__ = ["server"]  # fixtures


@pytest.fixture
def file(server: Server) -> tuple[str, bytes, str]:
    content = random.Random(0).randbytes(3 << 20)
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
    starts = [int(value.removeprefix("bytes=").removesuffix("-")) for value in server.ranges]
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
    with pytest.raises(HubError, match=r"cannot be downloaded: .*; check the network and run again$"):
        download(f"{server.url}/toy.pt", tmp_path / "a.pt", "0" * 64, pause_s=0)


@pytest.mark.slow
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
