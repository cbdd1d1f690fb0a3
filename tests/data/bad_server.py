"""A real HTTP server on loopback addresses that misbehaves in every way that servers do.

A path says how: `/ok/17.jpg`, `/drip/3.jpg`, ... see `BEHAVIOURS`. Every request is counted. It listens on all
127.x.y.z at once, so one server is many hosts. As a script it serves until it is killed and writes each request's path
to standard output.
"""

import asyncio
import gzip
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache

from raw_pictures import bomb, encode, jpeg, noise

from diptych.data.fetch import client

Writer = asyncio.StreamWriter
Behaviour = Callable[["BadServer", str, str, Writer], Awaitable[None]]


@cache
def picture(name: str) -> bytes:
    """A picture of its own for each name."""
    return jpeg(seed=sum(map(ord, name)) * 7919 % 2**31)


@cache
def large() -> bytes:
    return encode(noise(300, 200), "JPEG", quality=95)


def head(status: str, length: int | None, *lines: str) -> bytes:
    """The head of an answer; without a length it is left out."""
    own = [f"Content-Length: {length}"] if length is not None else []
    return "\r\n".join([f"HTTP/1.1 {status}", *own, *lines, "", ""]).encode("latin-1")


def whole(status: str, body: bytes, *lines: str) -> Behaviour:
    """Always the same answer."""

    async def answer(server: "BadServer", path: str, host: str, writer: Writer) -> None:
        writer.write(head(status, len(body), *lines) + body)

    return answer


async def ok(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    body = picture(path)
    writer.write(head("200 OK", len(body), "Content-Type: image/jpeg") + body)


async def gzipped(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    body = gzip.compress(picture(path))
    writer.write(head("200 OK", len(body), "Content-Encoding: gzip") + body)


async def slow(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    """Dawdles with the head, but answers in time."""
    await asyncio.sleep(0.3)
    await ok(server, path, host, writer)


async def never(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    await asyncio.sleep(3600)


async def drip(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    """A byte now and then: always alive, never done."""
    body = large()
    writer.write(head("200 OK", len(body)))
    for i in range(len(body)):
        writer.write(body[i : i + 1])
        await writer.drain()
        await asyncio.sleep(0.05)


async def half(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    """Closes in the middle of what it has announced."""
    body = large()
    writer.write(head("200 OK", len(body)) + body[: len(body) // 2])
    await writer.drain()
    writer.close()


async def unannounced(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    """Closes in the middle, and HTTP cannot tell: only the picture can."""
    writer.write(head("200 OK", None, "Connection: close") + large()[:9000])
    await writer.drain()
    writer.close()


async def reset(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    writer.transport.abort()


async def circle(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    name = path.rsplit("/", 1)[1]
    other = f"b-{name}" if not name.startswith("b-") else name[2:]
    writer.write(head("302 Found", 0, f"Location: http://{host}/circle/{other}"))


async def spiral(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    """Redirects for ever, each time to a new place."""
    writer.write(head("301 Moved", 0, f"Location: {path}x"))


async def moved(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    writer.write(head("301 Moved Permanently", 0, f"Location: /ok{path.removeprefix('/moved')}"))


async def endless(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    writer.write(head("200 OK", None, "Transfer-Encoding: chunked"))
    block = large()[:20].ljust(65536, b"\0")
    while True:
        writer.write(b"10000\r\n" + block + b"\r\n")
        await writer.drain()


async def giant(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    writer.write(head("200 OK", 10**12) + large())


async def once(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    """Fails the first time that it is asked."""
    if server.count(path) == 1:
        writer.write(head("500 Oh", 0))
    else:
        await ok(server, path, host, writer)


async def busy(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    """Asks to come back in a second, and then answers."""
    if server.count(path) == 1:
        writer.write(head("429 Too Many", 0, "Retry-After: 1"))
    else:
        await ok(server, path, host, writer)


async def wrong_length(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    """Announces less than it sends: the rest would be read as the next answer."""
    body = large()
    writer.write(head("200 OK", len(body) // 2) + body)
    await writer.drain()
    writer.close()


async def nonsense(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    writer.write(b"\x16\x03\x01 hello, I am no HTTP\r\n\r\n")
    await writer.drain()
    writer.close()


async def sick(server: "BadServer", path: str, host: str, writer: Writer) -> None:
    """Fails until the server is healed."""
    if server.healed:
        await ok(server, path, host, writer)
    else:
        writer.write(head("503 Later", 0))


@contextmanager
def loopback_is_public() -> Iterator[None]:
    """Let the guard of private addresses think that 127.x.y.z are public, so that it stays on for all others."""
    guard = client.is_public
    client.is_public = lambda address: address.startswith("127.") or guard(address)
    try:
        yield
    finally:
        client.is_public = guard


HTML = b"<!doctype html><title>Not found</title>" + b" " * 5000
NAMED = "Content-Type: image/jpeg"
BEHAVIOURS: dict[str, Behaviour] = {
    "ok": ok,
    "gzipped": gzipped,
    "slow": slow,
    "moved": moved,
    "once": once,
    "busy": busy,
    "never": never,
    "drip": drip,
    "half": half,
    "unannounced": unannounced,
    "reset": reset,
    "circle": circle,
    "spiral": spiral,
    "private": whole("302 Found", b"", "Location: http://10.11.12.13/secret"),
    "file": whole("302 Found", b"", "Location: file:///etc/passwd"),
    "nowhere": whole("302 Found", b""),
    "html": whole("200 OK", HTML, NAMED),
    "exe": whole("200 OK", b"MZ\x90\x00" + b"\0" * 400, NAMED),
    "giant": giant,
    "endless": endless,
    "bomb": whole("200 OK", bomb(), "Content-Type: image/png"),
    "gzip-bomb": whole("200 OK", gzip.compress(large()[:20] + b"\0" * 50_000_000), "Content-Encoding: gzip"),
    "brotli": whole("200 OK", b"\x1b\x03", "Content-Encoding: br"),
    "404": whole("404 Not Found", HTML),
    "410": whole("410 Gone", b""),
    "403": whole("403 Forbidden", b""),
    "418": whole("418 Teapot", b""),
    "204": whole("204 No Content", b""),
    "come-back-tomorrow": whole("429 Too Many", b"", "Retry-After: 86400"),
    "500": whole("500 Oh", b""),
    "sick": sick,
    "empty": whole("200 OK", b"", NAMED),
    "wrong-length": wrong_length,
    "noai": whole("200 OK", large(), "X-Robots-Tag: noai, noimageai"),
    "noai-other": whole("200 OK", large(), "X-Robots-Tag: otherbot: noai"),
    "tdm": whole("200 OK", large(), "TDM-Reservation: 1"),
    "long-header": whole("200 OK", large(), "X-Long: " + "x" * 200_000),
    "bad-header": whole("200 OK", large(), "no colon here"),
    "nonsense": nonsense,
    "traversal": whole("200 OK", large(), 'Content-Disposition: attachment; filename="../../../evil.jpg"'),
}


class BadServer:
    """The server on a thread of its own; use it as a context manager.

    Attributes:
        port: where it listens, on every loopback address.
        requests: (host, path) -> how often it was asked for.
        most_at_once: host -> the most requests under way at the same time.
    """

    def __init__(self, robots: str | None = None, robots_status: str = "200 OK", echo: bool = False) -> None:
        self.robots = robots
        self.robots_status = robots_status
        self.echo = echo
        self.healed = False
        self.requests: Counter[tuple[str, str]] = Counter()
        self.most_at_once: Counter[str] = Counter()
        self._at_once: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> "BadServer":
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "0.0.0.0", 0, backlog=2000))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        async def stop() -> None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def url(self, path: str, host: int = 1) -> str:
        """The address of `path` on loopback host 127.0.0.`host`."""
        return f"http://127.0.0.{host}:{self.port}/{path}"

    def count(self, path: str) -> int:
        """How often `path` was asked for, over all hosts."""
        return sum(n for (_, asked), n in self.requests.items() if asked == path)

    def paths(self) -> Counter[str]:
        """How often each path but robots.txt was asked for."""
        return Counter({path: n for (_, path), n in self.requests.items() if path != "/robots.txt"})

    def total(self) -> int:
        """Requests in all."""
        return sum(self.requests.values())

    async def _serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while not writer.is_closing() and await self._answer(reader, writer):
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: Writer) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = lines[0].split(" ")[1]
        host = next((line.split(": ")[1] for line in lines if line.lower().startswith("host: ")), "")
        self.requests[host, path] += 1
        if self.echo:
            print(path, flush=True)
        self._at_once[host] += 1
        self.most_at_once[host] = max(self.most_at_once[host], self._at_once[host])
        try:
            if path == "/robots.txt":
                text = (self.robots or "").encode()
                writer.write(head("404 None" if self.robots is None else self.robots_status, len(text)) + text)
            else:
                behaviour = BEHAVIOURS.get(path.split("/")[1], BEHAVIOURS["404"])
                await behaviour(self, path, host, writer)
        finally:
            self._at_once[host] -= 1
        return True


if __name__ == "__main__":
    with BadServer(echo=True) as server:
        print(server.port, flush=True)
        sys.stdin.read()
