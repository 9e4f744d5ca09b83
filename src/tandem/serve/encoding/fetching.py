"""An http(s) address that a request brought -> its bytes, where its host was named beforehand and is a public one.

A server that fetches what strangers name can be sent to what only it can reach: its own machine, the network behind
it, a cloud's metadata. So a host must be allowed by name; its name is resolved once, every address it has must be
public, and the connection goes to that very address. Every redirect passes the same gate. Proxies of the environment
are not used: they would resolve the name again. Knows nothing of pictures.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from tandem.errors import TandemError

if TYPE_CHECKING:
    import httpx

MAX_REDIRECTS = 5
MAX_URL_LENGTH = 2048
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RefusedError(TandemError):
    """An address that is not fetched, or gave no body within the limits."""


class TooLargeError(RefusedError):
    """A body of more bytes than allowed."""


def is_url(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))


def is_public(address: Address) -> bool:
    """Whether an address belongs to the open internet. What holds an IPv4 address inside is judged by that as well."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        tunnelled = [address.sixtofour, *(address.teredo or ())]
        if any(inside is not None and not is_public(inside) for inside in tunnelled):
            return False
        if address.scope_id is not None or address.is_site_local:
            return False
    return address.is_global and not (
        address.is_multicast
        or address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_reserved
        or address.is_unspecified
    )


async def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a host, as the system knows them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(entry[4][0]) for entry in found]


@dataclass(frozen=True)
class Fetcher:
    """What may be fetched. `allowed` are hosts as they stand in addresses: `example.org` (ports 80 and 443), or
    `example.org:8443`; no part of a name and no pattern.
    """

    allowed: frozenset[str]
    max_bytes: int
    timeout_s: float = 10.0  # for all of it: name, connection, redirects, body
    resolve: Callable[[str, int], Awaitable[list[Address]]] = resolve
    may_connect: Callable[[Address], bool] = is_public

    @classmethod
    def of(cls, hosts: Iterable[str], *, max_bytes: int, timeout_s: float = 10.0) -> "Fetcher":
        """Raises `TandemError` for what is no host, such as an address with a path."""
        return cls(frozenset(_checked_host(host) for host in hosts), max_bytes, timeout_s)

    async def fetch(self, url: str) -> bytes:
        """The body. Raises `RefusedError`, which says why there is none, and nothing else."""
        import httpx

        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._followed(url)
        except TimeoutError:
            raise RefusedError(f"not received within {self.timeout_s:g} s") from None
        except httpx.TimeoutException:
            raise RefusedError(f"no answer within {self.timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            # the kind only: texts of errors name addresses behind the name
            raise RefusedError(f"cannot be fetched ({type(error).__name__})") from None

    async def _followed(self, url: str) -> bytes:
        import httpx

        async with httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            timeout=self.timeout_s,
            headers={"user-agent": "tandem-clip", "accept-encoding": "identity"},
        ) as client:
            for _ in range(MAX_REDIRECTS + 1):
                body, url = await self._hop(client, url)
                if body is not None:
                    return body
        raise RefusedError(f"more than {MAX_REDIRECTS} redirects")

    async def _hop(self, client: "httpx.AsyncClient", url: str) -> tuple[bytes | None, str]:
        """The body; or None and where to go on."""
        import httpx

        if not is_url(url):
            raise RefusedError("leads to what is no http(s) address")
        if len(url) > MAX_URL_LENGTH:
            raise RefusedError(f"expected an address of at most {MAX_URL_LENGTH:,} letters")
        parsed = httpx.URL(url)
        self._check_named(parsed)
        port = parsed.port or _PORTS[parsed.scheme]
        addresses = await self.resolve(parsed.host, port)
        if not addresses or not all(self.may_connect(address) for address in addresses):
            raise RefusedError(f"{parsed.host} leads to an address that is not public")
        response = await self._connected(client, parsed, addresses)
        try:
            if response.has_redirect_location:
                return None, urljoin(url, response.headers["location"])
            return await self._body(response), url
        finally:
            await response.aclose()

    async def _connected(
        self, client: "httpx.AsyncClient", url: "httpx.URL", addresses: list[Address]
    ) -> "httpx.Response":
        """The answer of the first address that takes the call. These very ones: asking for the name again could bring
        others.
        """
        import httpx

        for left in range(len(addresses) - 1, -1, -1):
            request = client.build_request(
                "GET",
                url.copy_with(host=str(addresses[-1 - left])),
                headers={"host": url.netloc.decode("ascii")},
                extensions={"sni_hostname": url.raw_host.decode("ascii")},  # the certificate is checked for the name
            )
            try:
                return await client.send(request, stream=True)
            except httpx.ConnectError:
                if not left:
                    raise
        raise RefusedError("no address")

    def _check_named(self, url: "httpx.URL") -> None:
        if url.userinfo:
            raise RefusedError("expected an address without a user and password")
        host = url.raw_host.decode("ascii").lower()
        default = url.port is None or url.port == _PORTS[url.scheme]
        if not ((default and host in self.allowed) or f"{host}:{url.port or _PORTS[url.scheme]}" in self.allowed):
            shown = host if default else f"{host}:{url.port}"
            raise RefusedError(f"addresses of {shown[:80]!r} are not fetched here: send the picture itself")

    async def _body(self, response: "httpx.Response") -> bytes:
        if response.status_code != 200:
            raise RefusedError(f"its server answered {response.status_code}")
        announced = response.headers.get("content-length", "")
        if announced.isdigit() and len(announced) < 20 and int(announced) > self.max_bytes:
            raise TooLargeError(f"{int(announced):,} bytes, more than the limit of {self.max_bytes:,}")
        body = bytearray()
        async for chunk in response.aiter_raw():  # raw: what is packed all the same is not unpacked beyond the limit
            body += chunk
            if len(body) > self.max_bytes:
                raise TooLargeError(f"more bytes than the limit of {self.max_bytes:,}")
        return bytes(body)


def _checked_host(text: str) -> str:
    import httpx

    try:
        parsed = httpx.URL(f"host://{text.strip()}")  # a scheme of no known port: one that is named is kept
        plain = not parsed.userinfo and parsed.path in ("", "/") and not parsed.query and not parsed.fragment
    except (httpx.InvalidURL, ValueError):
        plain = False
    if not plain or not parsed.host or set(text.strip()) & set("*/ %"):
        raise TandemError(f"allow-fetch: expected a host such as images.example.org, got {text!r}")
    host = parsed.raw_host.decode("ascii").lower()
    return host if parsed.port is None else f"{host}:{parsed.port}"
