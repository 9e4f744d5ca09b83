"""Which names a server on loopback answers to: no other name that merely looks like its own."""

import socket

import pytest

from tandem.serve.http.hosts import Hosts

OWN = Hosts.of("127.0.0.1", [], on_loopback=True)


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "LOCALHOST:8000",
        "localhost.",
        "photos.localhost",
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]:80",
        "127.9.9.9",
    ],
)
def test_its_own_names(name: str) -> None:
    assert OWN.admit(name)


@pytest.mark.parametrize(
    "name",
    ["xlocalhost", "evil-localhost", "xlocalhost:8000", "localhost.evil.org", "localhostx", "example.org", "10.0.0.1",
     "127.0.0.1.evil.org", "", "localhost@evil.org", "a b", "[::2]", "localhost:80:80"],
)  # fmt: skip
def test_the_names_of_others(name: str) -> None:
    assert not OWN.admit(name)


def test_a_name_that_is_allowed_is_that_name_only() -> None:
    hosts = Hosts.of("127.0.0.1", ["photos.example.org"], on_loopback=True)
    assert hosts.admit("photos.example.org:443")
    assert not hosts.admit("example.org")
    assert not hosts.admit("xphotos.example.org")


def test_a_server_for_a_network_answers_to_the_names_of_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Attic")
    wide = Hosts.of("photos.lan", ["Example.org"], on_loopback=False)
    assert wide.names == {"example.org", "photos.lan", "attic", "attic.local"}
    assert wide.admit("attic.local:8000")
    assert wide.admit("10.0.0.1")
    assert not wide.admit("evil.org")
    assert Hosts.of("photos.lan", ["Example.org"], on_loopback=True).names == {"example.org"}
