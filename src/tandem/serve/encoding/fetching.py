"""Fetches images by URL for requests, from allowed public hosts only.

A server that fetches any URL can be made to reach what only it can reach (SSRF): its own machine, its internal network,
a cloud's metadata service. So hosts must be allowed by name; a name is resolved once, all its addresses must be public,
and the connection goes to one of these addresses. Every redirect passes the same checks. Proxies of the environment
are not used: they would resolve the name again. That is why `tandem.fetch`, which trusts the caller's address, is not
enough here. Knows nothing of what the bytes are.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from tandem.errors import ImageError, TandemError
from tandem.fetch import MAX_REDIRECTS, is_url

if TYPE_CHECKING:
    import httpx

MAX_URL_LENGTH = 2048
TIMEOUT_S = 10.0
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet. An IPv4 address embedded in an IPv6 one is checked as well."""
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
    """What may be fetched. `allowed` are hosts as written in addresses: `example.org` (ports 80 and 443), or
    `example.org:8443`; no parts of names and no patterns.
    """

    allowed: frozenset[str]
    max_bytes: int
    timeout_s: float = TIMEOUT_S  # for all of it: name, connection, redirects, body
    resolve: Callable[[str, int], Awaitable[list[Address]]] = resolve
    may_connect: Callable[[Address], bool] = is_public

    @classmethod
    def of(cls, hosts: Iterable[str], *, max_bytes: int, timeout_s: float = TIMEOUT_S) -> "Fetcher":
        """Raises `TandemError` for anything but a host, such as an address with a path."""
        return cls(frozenset(_checked_host(host) for host in hosts), max_bytes, timeout_s)

    async def fetch(self, url: str) -> bytes:
        """The body. Raises `ImageError` without details of the network, whatever goes wrong."""
        import httpx

        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._followed(url)
        except TimeoutError:
            raise ImageError(url, f"not received within {self.timeout_s:g} s", "timeout") from None
        except httpx.TimeoutException:
            raise ImageError(url, f"no answer within {self.timeout_s:g} s", "timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            # the type only: messages contain the addresses behind a name
            raise ImageError(url, f"cannot be fetched ({type(error).__name__})", "not_found") from None

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
        raise ImageError(url, f"more than {MAX_REDIRECTS} redirects", "not_found")

    async def _hop(self, client: "httpx.AsyncClient", url: str) -> tuple[bytes | None, str]:
        """The body; or None and where to go on."""
        import httpx

        if not is_url(url):
            raise ImageError(url, "leads to what is no http(s) address", "forbidden")
        if len(url) > MAX_URL_LENGTH:
            raise ImageError(url, f"expected an address of at most {MAX_URL_LENGTH:,} characters", "invalid")
        parsed = httpx.URL(url)
        self._check_named(parsed)
        port = parsed.port or _PORTS[parsed.scheme]
        addresses = await self.resolve(parsed.host, port)
        if not addresses or not all(self.may_connect(address) for address in addresses):
            raise ImageError(url, f"{parsed.host} leads to an address that is not public", "forbidden")
        response = await self._connected(client, parsed, addresses)
        try:
            if response.has_redirect_location:
                return None, urljoin(url, response.headers["location"])
            return await self._body(response, url), url
        finally:
            await response.aclose()

    async def _connected(
        self, client: "httpx.AsyncClient", url: "httpx.URL", addresses: list[Address]
    ) -> "httpx.Response":
        """The answer of the first address that can be connected to. Resolving the name again could bring others."""
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
        raise ImageError(str(url), "no address", "not_found")

    def _check_named(self, url: "httpx.URL") -> None:
        if url.userinfo:
            raise ImageError(str(url), "expected an address without a user and password", "forbidden")
        host = url.raw_host.decode("ascii").lower()
        default = url.port is None or url.port == _PORTS[url.scheme]
        if not ((default and host in self.allowed) or f"{host}:{url.port or _PORTS[url.scheme]}" in self.allowed):
            shown = host if default else f"{host}:{url.port}"
            reason = f"addresses of {shown[:80]!r} are not fetched here: send the image itself"
            raise ImageError(str(url), reason, "forbidden")

    async def _body(self, response: "httpx.Response", url: str) -> bytes:
        if response.status_code != 200:
            raise ImageError(url, f"its server answered {response.status_code}", "not_found")
        announced = response.headers.get("content-length", "")
        if announced.isdigit() and len(announced) < 20 and int(announced) > self.max_bytes:
            raise ImageError(url, f"{int(announced):,} bytes, more than the limit of {self.max_bytes:,}", "too_large")
        body = bytearray()
        async for chunk in response.aiter_raw():  # raw: a compressed body cannot grow beyond the limit
            body += chunk
            if len(body) > self.max_bytes:
                raise ImageError(url, f"more bytes than the limit of {self.max_bytes:,}", "too_large")
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
