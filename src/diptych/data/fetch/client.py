"""One request: connect to a public address, read within bounds, and say in one word what went wrong.

aiohttp does the HTTP. It was measured against httpx and httpcore on 4,000 answers of 20 kB from a local server: its
parser takes a tenth of their processor time, and it lets a caller resolve names and make sockets by itself, which is
what pins a connection to the address that was checked.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from diptych.data.fetch.addresses import PrivateAddress, clean_url, is_public
from diptych.data.fetch.content import Body
from diptych.data.fetch.options import FetchOptions
from diptych.data.fetch.reasons import Failed, of_status
from diptych.data.fetch.rights import Robots, header_refusal
from diptych.types import InputError

if TYPE_CHECKING:
    import aiohttp

REDIRECTS = (301, 302, 303, 307, 308)
ROBOTS_BYTES = 500 * 1024  # RFC 9309: at least as much must be read


class Answer(NamedTuple):
    """A body, or where it has moved."""

    status: int
    body: bytes = b""
    moved_to: str | None = None


class Client:
    """Makes the requests of one run; use it as an asynchronous context manager.

    Raises:
        InputError: aiohttp is not installed.
    """

    def __init__(self, options: FetchOptions) -> None:
        try:
            import aiohttp
        except ModuleNotFoundError:
            raise InputError('fetching needs aiohttp: pip install "diptych[fetch]"') from None
        self._aiohttp = aiohttp
        self._options = options

    async def __aenter__(self) -> Self:
        options, aiohttp = self._options, self._aiohttp
        guard: dict[str, Any] = {}
        if not options.allow_private:
            guard = {"resolver": _public_resolver(), "socket_factory": _public_socket}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, **guard),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=options.connect, sock_connect=options.connect, sock_read=options.silence
            ),
            headers={"User-Agent": options.user_agent, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # `Body` bounds what comes out
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._session.close()

    async def picture(self, url: str) -> Answer:
        """The bytes at `url`, whole and with the mark of a picture, or where they have moved. Raises `Failed`."""
        async with self._open(url) as response:
            headers = response.headers
            refusal = header_refusal(
                headers.getall("X-Robots-Tag", []), headers.getall("TDM-Reservation", []), self._options.agent
            )
            if refusal is not None and response.status < 400:
                raise Failed(*refusal, response.status)
            if response.status in REDIRECTS:
                return Answer(response.status, moved_to=_location(url, headers.get("Location")))
            if response.status != 200:
                raise Failed(of_status(response.status), f"HTTP {response.status}", response.status, _wait(headers))
            return Answer(200, await self._body(response))

    async def robots(self, origin: str) -> Robots:
        """The rules of a host. What it does not have, it allows. Raises `Failed` where it cannot be asked."""
        url = f"{origin}/robots.txt"
        for _ in range(6):  # RFC 9309: at least five redirects
            async with self._open(url) as response:
                if response.status in REDIRECTS:
                    try:
                        url = _location(url, response.headers.get("Location"))
                    except Failed:
                        break
                    continue
                if response.status >= 500 or response.status == 429:
                    detail = f"{url}: HTTP {response.status}"
                    raise Failed("robots.txt unavailable", detail, response.status, _wait(response.headers))
                text = await self._rules(response) if response.status == 200 else b""
                return Robots(text.decode("utf-8", "replace"), self._options.agent)
        return Robots("", self._options.agent)

    async def _rules(self, response: aiohttp.ClientResponse) -> bytes:
        """The start of a robots.txt; what lies beyond `ROBOTS_BYTES` does not count."""
        try:
            body = Body(ROBOTS_BYTES, response.headers.get("Content-Encoding", ""), picture=False)
            try:
                async for part in response.content.iter_any():
                    body.add(part)
            except Failed as error:
                if error.reason != "file too large":
                    raise
            return body.seen
        except (Failed, self._aiohttp.ClientPayloadError) as error:
            raise Failed("robots.txt unavailable", str(error), response.status) from None

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self._options.max_bytes
        try:
            if (response.content_length or 0) > limit:
                raise Failed("file too large", f"{response.content_length:,} bytes announced, {limit:,} allowed")
            body = Body(limit, response.headers.get("Content-Encoding", ""))
            async for part in response.content.iter_any():
                body.add(part)
            return body.end()
        except Failed as error:
            error.status = response.status
            raise
        except self._aiohttp.ClientPayloadError as error:
            raise Failed("image truncated", f"the body stopped early: {error}", response.status) from None

    @asynccontextmanager
    async def _open(self, url: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """A GET whose errors are `Failed`."""
        aiohttp = self._aiohttp
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                yield response
        except aiohttp.ClientConnectorError as error:
            raise _of_connecting(error) from None
        except (aiohttp.ClientConnectionResetError, aiohttp.ServerDisconnectedError, ConnectionError) as error:
            raise Failed("connection reset", str(error)) from None
        except aiohttp.ConnectionTimeoutError as error:
            raise Failed("connection time-out", str(error)) from None
        except aiohttp.ServerTimeoutError as error:
            raise Failed("no answer in time", str(error)) from None
        except aiohttp.ClientOSError as error:
            raise Failed("connection reset", str(error)) from None
        except aiohttp.InvalidURL as error:
            raise Failed("url not valid", f"{url[:200]}: {error}") from None
        except aiohttp.ClientError as error:
            raise Failed("answer not valid", f"{type(error).__name__}: {error}"[:300]) from None
        except ValueError as error:  # a host name that no rule of encoding allows
            raise Failed("url not valid", f"{url[:200]}: {error}") from None


def _of_connecting(error: aiohttp.ClientConnectorError) -> Failed:
    cause = error.os_error
    if isinstance(cause, PrivateAddress):
        return Failed("private address", str(cause))
    if isinstance(cause, ssl.SSLError | ssl.CertificateError):
        return Failed("certificate not valid", str(cause))
    if isinstance(cause, socket.gaierror) or type(error).__name__ == "ClientConnectorDNSError":
        return Failed("host not found", f"{error.host}: {cause}")
    if isinstance(cause, ConnectionRefusedError):
        return Failed("connection refused", str(cause))
    return Failed("connection failed", str(cause))


def _location(url: str, location: str | None) -> str:
    if not location:
        raise Failed("redirect not valid", "a redirect without Location")
    try:
        return clean_url(location, base=url)
    except ValueError as error:
        raise Failed("redirect not valid", f"{location[:200]}: {error}") from None


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds of a `Retry-After`, which may also be a date; None for anything else."""
    given = headers.get("Retry-After", "").strip()
    if given.isascii() and given.isdigit():
        return float(given[:9])
    try:
        when = parsedate_to_datetime(given)
        return max((when - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


def _public_resolver() -> Any:
    """A resolver that raises `PrivateAddress` for a name that leads into a private network, even in part."""
    from aiohttp.resolver import ThreadedResolver

    class PublicResolver(ThreadedResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
            found = await super().resolve(host, port, family)
            for one in found:
                if not is_public(one["host"]):
                    raise PrivateAddress(f"{host} is {one['host']}")
            return found

    return PublicResolver()


def _public_socket(info: Any) -> socket.socket:
    """A socket for the address that is about to be connected to: the last look, which literals cannot pass either."""
    family, kind, protocol, _, address = info
    if not is_public(str(address[0])):
        raise PrivateAddress(f"{address[0]}")
    return socket.socket(family, kind, protocol)
