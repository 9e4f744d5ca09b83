"""Which host names and which origins a server accepts, against DNS rebinding and cross-site requests.

Another site can make its own name resolve to this machine. The browser then takes this server for that site, and only
the Host header reveals it. IP addresses cannot be rebound, so they are safe. Knows headers; no requests.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from tandem.errors import ConfigError

ANY = "*"
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/@?#\s]+)(?::[0-9]{0,5})?")
_OWN_PAGE = ("same-origin", "none")  # none: typed, or from a bookmark


@dataclass(frozen=True)
class Hosts:
    """`names`: lower case, without ports. `wide`: other machines can reach the server."""

    names: frozenset[str]
    wide: bool = False

    @classmethod
    def of(cls, host: str, allowed: Iterable[str], *, on_loopback: bool) -> "Hosts":
        """Of a server that listens on `host`. Raises `ConfigError`."""
        names = {_named(name) for name in allowed}
        if not on_loopback:
            own = socket.gethostname()
            names |= {_plain(host), _plain(own), _plain(f"{own}.local")}
        return cls(frozenset(names), wide=not on_loopback)

    def admit(self, authority: str) -> bool:
        """Whether a Host header's value, `name` or `name:port`, is one of this server's."""
        found = _AUTHORITY.fullmatch(authority.strip())
        if found is None:
            return False
        name = _plain(found[1])
        if ANY in self.names or name in self.names or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return (
                self.wide and "." not in name
            )  # names of a local network or of containers, which no other site can own
        return self.wide or address.is_loopback

    def from_own_page(self, authority: str, origin: str | None, fetch_site: str | None) -> bool:
        """Whether a request other than GET may be answered: not one that a browser sends for another origin."""
        if fetch_site is not None:  # set by the browser; no page can forge it
            return fetch_site in _OWN_PAGE
        if origin is None:  # not a browser
            return True
        try:
            source = urlsplit(origin).netloc.lower()
        except ValueError:  # not a URL
            return False
        return bool(source) and (source == authority.strip().lower() or self._is_named(source))

    def _is_named(self, authority: str) -> bool:
        """Behind a proxy the page has another name than the Host header of the proxy."""
        found = _AUTHORITY.fullmatch(authority)
        return found is not None and _plain(found[1]) in self.names


def _named(name: str) -> str:
    found = _AUTHORITY.fullmatch(name.strip())
    if found is None:
        raise ConfigError(f"allow_hosts: expected a host's name, such as photos.example.org, got {name!r}")
    return _plain(found[1])


def _plain(name: str) -> str:
    return name.strip().rstrip(".").lower()
