"""Requests to a chat server that may be busy, broken or gone: tried again with patience, every failure one sentence."""

import email.utils
import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from diptych.types import InputError

KEY = "OPENAI_API_KEY"
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0  # seconds between two tries; each wait is twice the one before
_TRY_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_HOPELESS = {
    401: f"the server refuses the key; set {KEY}",
    402: "the server wants to be paid first",
    403: f"the server forbids it for this key; set {KEY}",
    404: "no such address or model; expected one such as 'http://HOST/v1?model=NAME'",
}
_MOST_BYTES = 16 << 20  # of an answer
# what some servers do not take, and what stands for it there
_DISPENSABLE = {"logprobs": None, "temperature": None, "max_tokens": "max_completion_tokens"}


class Failed(Exception):
    """A question without an answer. `reason` is short and can be counted; `counts`: the server is at fault."""

    def __init__(self, reason: str, detail: str, counts: bool = True) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.counts = counts


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would carry the key to another host."""

    def redirect_request(self, *args: Any) -> None:
        return None


class _Busy(Exception):
    """Worth another try, perhaps after as many seconds as the server asks for."""

    def __init__(self, reason: str, detail: str, after: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.after = reason, detail, after


class Http:
    """Posts JSON to one address, from many threads, at most `rpm` times a minute.

    Attributes:
        retried: requests that were sent again.
    """

    def __init__(self, url: str, timeout: float, retries: int, rpm: float | None) -> None:
        self.url = url
        self.retried = 0
        self._timeout = timeout
        self._retries = retries
        self._interval = 0.0 if rpm is None else 60.0 / rpm
        self._next = 0.0  # when the next request may go out
        self._reached = False  # whether the server ever said anything
        self._without: set[str] = set()  # of `_DISPENSABLE`, what this server does not take
        self._lock = threading.Lock()
        self._opener = urllib.request.build_opener(_Stay)

    def post(self, body: dict[str, Any], stop: threading.Event) -> dict[str, Any]:
        """The answer to `body`.

        Raises:
            Failed: there is none after all retries, or this body is not taken, or `stop` was set meanwhile.
            InputError: there will be none for any body.
        """
        tries = 0
        while True:
            self._wait_for_turn(stop)
            without = set(self._without)
            try:
                return self._send({_renamed(name, without): body[name] for name in body if _sent(name, without)})
            except _Unwelcome as error:
                with self._lock:
                    self._without.add(error.parameter)
                if error.parameter in without:
                    raise Failed("bad request", error.detail, counts=False) from None
                continue
            except _Busy as error:
                wait = min(_FIRST_WAIT * 2**tries, _LONGEST_WAIT) if error.after is None else error.after
                if tries == self._retries or wait > _LONGEST_WAIT:
                    if error.reason == "no connection" and not self._reached:
                        raise InputError(f"{self.url}: {error.reason}: {error.detail}") from None
                    raise Failed(error.reason, f"{self.url}: {error.detail}") from None
            tries += 1
            with self._lock:
                self.retried += 1
            if stop.wait(wait):
                raise Failed("stopped", "another question ended the run", counts=False)

    def _wait_for_turn(self, stop: threading.Event) -> None:
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._interval
        if stop.wait(max(0.0, turn - now)):
            raise Failed("stopped", "another question ended the run", counts=False)

    def _send(self, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        key = os.environ.get(KEY, "").strip()
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                data = response.read(_MOST_BYTES)
        except urllib.error.HTTPError as error:
            self._reached = True
            with error:
                raise self._refusal(error, key, body) from None
        except TimeoutError:
            raise self._late() from None
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a key that is no header
            if isinstance(getattr(error, "reason", None), TimeoutError):
                raise self._late() from None
            if isinstance(error, http.client.IncompleteRead):
                self._reached = True
                raise _Busy("broken answer", "it ends too early") from None
            if isinstance(error, ValueError):
                raise InputError(f"{self.url}: {KEY} holds what no header can") from None
            raise _Busy("no connection", _clean(str(getattr(error, "reason", error)), key)) from None
        self._reached = True
        try:
            answer = json.loads(data)
        except ValueError:
            raise _Busy("broken answer", f"expected JSON, got {_clean(_text(data), key)[:80]!r}") from None
        if not isinstance(answer, dict):
            raise _Busy("broken answer", f"expected a JSON object, got {type(answer).__name__}")
        return answer

    def _late(self) -> _Busy:
        return _Busy("no answer in time", f"nothing came for {self._timeout:g} s")

    def _refusal(self, error: urllib.error.HTTPError, key: str, body: dict[str, Any]) -> Exception:
        """What a status that is no success means."""
        try:
            said = _message(error.read(_MOST_BYTES))
        except (OSError, http.client.HTTPException):
            said = ""
        detail = f"HTTP {error.code}" + (f": {_clean(said, key)[:200]}" if said else "")
        if error.code in _HOPELESS:
            return InputError(f"{self.url}: {_HOPELESS[error.code]} ({detail})")
        if 300 <= error.code < 400:
            return InputError(f"{self.url}: the server sends us elsewhere; write the address that it means ({detail})")
        if error.code in _TRY_AGAIN:
            reason = "rate limit" if error.code == 429 else "server error"
            return _Busy(reason, detail, _seconds(error.headers.get("Retry-After")))
        for name in _DISPENSABLE:
            if error.code in (400, 422) and name in body and name in said:
                return _Unwelcome(name, detail)
        return Failed("bad request" if error.code < 500 else "server error", detail, counts=error.code >= 500)


class _Unwelcome(Exception):
    """The server does not take a parameter that can be left out or has another name."""

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(detail)
        self.parameter, self.detail = parameter, detail


def _sent(name: str, without: set[str]) -> bool:
    return name not in without or _DISPENSABLE[name] is not None


def _renamed(name: str, without: set[str]) -> str:
    return (_DISPENSABLE[name] or name) if name in without else name


def _seconds(value: str | None) -> float | None:
    """What a Retry-After header asks for: seconds, or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _message(data: bytes) -> str:
    """The sentence in an error's body, whatever form it has."""
    try:
        found = json.loads(data)
        found = found.get("error", found) if isinstance(found, dict) else found
        found = found.get("message", found) if isinstance(found, dict) else found
        return str(found)
    except ValueError:
        return _text(data)


def _text(data: bytes) -> str:
    return data[:2000].decode("utf-8", "replace")


def _clean(text: str, key: str) -> str:
    """In one line, and without the key, which some servers repeat."""
    line = " ".join(text.split())
    return line.replace(key, "***") if key else line
