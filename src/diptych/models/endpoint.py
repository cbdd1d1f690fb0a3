"""A model behind an OpenAI-compatible chat address: "http://HOST:PORT/v1?model=NAME".

The key comes from the environment variable OPENAI_API_KEY and goes nowhere but into the request's header.
"""

import base64
import hashlib
import io
import json
import math
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from PIL import Image

from diptych.config import parse, strict
from diptych.models.endpoint_http import Failed, Http
from diptych.paths import cache_dir
from diptych.types import InputError, Rejected, Reply

CAPTION = "Describe this picture in one short sentence."
CHOOSE = "{}\nReply with exactly one of these and nothing else: {}"
_FORMAT = 1  # of what is kept on disk
_PNG_BYTES = 1_000_000  # a picture that takes more than this goes out as JPEG
_IN_A_ROW = 10  # questions that fail one after the other before the rest is not asked


@strict
@dataclass(frozen=True)
class EndpointOptions:
    """What may stand behind the "?" of an address.

    Attributes:
        model: the name of the model at the server.
        rpm: requests a minute at most; None is as fast as the server answers.
        concurrency: questions that are under way at once.
        timeout: seconds without a word from the server after which a request has failed.
        retries: how often a request that failed is sent again.
        price_in, price_out: of a million tokens, in any currency, to count the cost.
        max_tokens: the longest reply; models that think before they answer need room for it.
        fresh: ask anew what was answered before this model was loaded; for other weights behind the same name.
    """

    model: str
    rpm: float | None = None
    concurrency: int = 4
    timeout: float = 120.0
    retries: int = 5
    price_in: float | None = None
    price_out: float | None = None
    max_tokens: int = 96
    fresh: bool = False

    def __post_init__(self) -> None:
        for name in ("rpm", "concurrency", "timeout", "max_tokens"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name}: expected more than 0, got {value}")
        for name in ("retries", "price_in", "price_out"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"{name}: expected 0 or more, got {value}")


@dataclass
class Usage:
    """What a model cost so far.

    Attributes:
        requests: questions that the server answered.
        cached: questions that were answered from disk, at no cost.
        retried: requests that failed and were sent again.
        tokens_in, tokens_out: as the server counted them.
        uncounted: answers whose tokens it did not count; they are not in the cost.
        cost: in the currency of the prices; None without prices.
    """

    requests: int = 0
    cached: int = 0
    retried: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    uncounted: int = 0
    cost: float | None = None

    def __str__(self) -> str:
        cost = "" if self.cost is None else f", cost {self.cost:.4f}"
        cost += f" (the server did not count the tokens of {self.uncounted:,})" if self.uncounted else ""
        return (
            f"{self.requests:,} answered by the server, {self.cached:,} from the cache, {self.retried:,} retries, "
            f"{self.tokens_in:,} tokens in and {self.tokens_out:,} out{cost}"
        )


class _Said(NamedTuple):
    """What the server said: the text and the log-probability of each of its tokens, if it tells them."""

    text: str
    logs: list[float] | None


class Endpoint:
    """`WritesCaptions` and `AnswersQuestions` over HTTP.

    Questions are asked a few at a time and in any order. Answers are kept on disk by address, model, text and pictures,
    so that the same question is never paid for twice. A question that fails after all retries, that the server
    refuses, or that is answered by none of its choices, is `Rejected`; the others go on.

    Attributes:
        usage: requests, tokens and cost so far.
    """

    def __init__(self, url: str, options: EndpointOptions) -> None:
        self.url = url.rstrip("/")
        self.options = options
        self.address = f"{self.url}?model={options.model}"
        self.usage = Usage(cost=None if options.price_in is options.price_out is None else 0.0)
        self._http = Http(f"{self.url}/chat/completions", options.timeout, options.retries, options.rpm)
        self._failed_in_a_row = 0
        self._asked: set[str] = set()  # keys of what was answered since this model was loaded
        self._lock = threading.Lock()

    def caption(self, pictures: Sequence[np.ndarray]) -> list[Reply | Rejected]:
        """A sentence about each picture; the confidence as in `answer`."""
        return self._ask_all([(CAPTION, [one], []) for one in pictures])

    def answer(
        self,
        pictures: Sequence[Sequence[np.ndarray]],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]] | None = None,
    ) -> list[Reply | Rejected]:
        """An answer to each question about its pictures.

        With choices the server is asked for one of them, and any other reply is rejected (letter case, quotes and a
        full stop aside). Where the server tells log-probabilities, the confidence is exp of their mean over the reply's
        tokens, or with choices of their sum; elsewhere it is None.

        Raises:
            InputError: the server cannot be reached, refuses the key, knows no such address or model, or fails ten
                questions in a row.
        """
        asked = []
        for i, question in enumerate(questions):
            options = list(choices[i]) if choices else []
            text = CHOOSE.format(question, ", ".join(json.dumps(one, ensure_ascii=False) for one in options))
            asked.append((text if options else question, pictures[i], options))
        return self._ask_all(asked)

    # ------------------------------------------------------------ asking

    def _ask_all(self, asked: Sequence[tuple[str, Sequence[np.ndarray], list[str]]]) -> list[Reply | Rejected]:
        stop = threading.Event()
        pool = ThreadPoolExecutor(self.options.concurrency, thread_name_prefix="ask")
        keys = [self._key(text, pictures) for text, pictures, _ in asked]
        try:
            waiting = {}
            for key, (text, pictures, _) in zip(keys, asked):
                if key not in waiting:  # the same question is asked once
                    waiting[key] = pool.submit(self._ask, key, text, pictures, stop)
            said = {key: future.result() for key, future in waiting.items()}
            return [_reply(said[key], choices) for key, (_, _, choices) in zip(keys, asked)]
        finally:
            stop.set()  # whoever waits to try again gives up
            pool.shutdown(cancel_futures=True)

    def _ask(self, key: str, text: str, pictures: Sequence[np.ndarray], stop: threading.Event) -> _Said | Rejected:
        file, known = _file(key), not self.options.fresh or key in self._asked
        kept = _read(file) if known else None
        if kept is not None:
            with self._lock:
                self.usage.cached += 1
            return kept
        try:
            said = self._take(self._http.post(self._body(text, pictures), stop))
        except Failed as error:
            self._count_failure(error)
            return Rejected("", error.reason, error.detail)
        if isinstance(said, _Said):
            _write(file, said)
            self._asked.add(key)
        return said

    def _body(self, text: str, pictures: Sequence[np.ndarray]) -> dict[str, Any]:
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _data_url(pixels)}} for pixels in pictures
        ]
        content.append({"type": "text", "text": text})
        return {
            "model": self.options.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.options.max_tokens,
            "temperature": 0,
            "logprobs": True,
        }

    def _take(self, answer: dict[str, Any]) -> _Said | Rejected:
        """The text of an answer, after its tokens are counted."""
        used = answer.get("usage")
        used = used if isinstance(used, dict) else {}
        with self._lock:
            self._failed_in_a_row = 0
            self.usage.requests += 1
            self.usage.retried = self._http.retried
            new_in, new_out = (_whole(used.get(name)) for name in ("prompt_tokens", "completion_tokens"))
            self.usage.uncounted += not new_in
            self.usage.tokens_in += new_in
            self.usage.tokens_out += new_out
            if self.usage.cost is not None:
                prices = self.options.price_in or 0.0, self.options.price_out or 0.0
                self.usage.cost += (new_in * prices[0] + new_out * prices[1]) / 1e6
        try:
            choice = answer["choices"][0]
            text, refusal = choice["message"].get("content"), choice["message"].get("refusal")
        except (KeyError, IndexError, TypeError, AttributeError):
            return Rejected("", "broken answer", f"{self.address}: expected choices[0].message.content")
        if not isinstance(text, str) or not text.strip():
            reason, ended = "refused" if refusal else "empty answer", choice.get("finish_reason")
            hint = "; give it more room with &max_tokens=" if ended == "length" else ""
            return Rejected("", reason, str(refusal or f"finish_reason {ended!r}{hint}")[:200])
        return _Said(text, _logs(choice))

    def _count_failure(self, error: Failed) -> None:
        if not error.counts:
            return
        with self._lock:
            self._failed_in_a_row += 1
            self.usage.retried = self._http.retried
            if self._failed_in_a_row >= _IN_A_ROW:
                self._failed_in_a_row = 0
                raise InputError(f"{self.address}: {_IN_A_ROW} questions in a row failed; the last: {error}") from None

    def _key(self, text: str, pictures: Sequence[np.ndarray]) -> str:
        digest = hashlib.blake2b(digest_size=20)
        digest.update(json.dumps([_FORMAT, self.url, self.options.model, text, self.options.max_tokens]).encode())
        for pixels in pictures:
            digest.update(f"{pixels.shape} {pixels.dtype}".encode())
            digest.update(np.ascontiguousarray(pixels).data)
        return digest.hexdigest()


def load(address: str) -> Endpoint:
    """The endpoint at an address such as "https://HOST/v1?model=NAME&rpm=60". Raises `InputError`.

    The options are those of `EndpointOptions`.
    """
    expected = "expected 'http(s)://HOST[:PORT]/v1?model=NAME'"
    try:
        split = urlsplit(address)
        _ = split.port
    except ValueError as error:
        raise InputError(f"chat server: {expected}: {error}") from None
    shown = f"{split.scheme}://{split.hostname or ''}{split.path}"
    if not split.hostname:
        raise InputError(f"{shown}: {expected}")
    if split.username is not None or split.password is not None:
        raise InputError(f"{shown}: expected no user or password; the key comes from OPENAI_API_KEY")
    given = dict(parse_qsl(split.query, keep_blank_values=True))
    known = [field.name for field in fields(EndpointOptions)]
    unknown = sorted(set(given) - set(known))
    if unknown:  # its value is not shown: somebody may have put a key there
        raise InputError(f"{shown}: unknown option '{unknown[0]}'; expected {', '.join(known)}")
    if not given.get("model"):
        raise InputError(f"{shown}: expected the model's name as '?model=NAME'")
    options = parse(EndpointOptions, given, shown)
    return Endpoint(f"{split.scheme}://{split.netloc}{split.path}", options)


# ---------------------------------------------------------------- what is sent and what comes back


def _data_url(pixels: np.ndarray) -> str:
    picture, data = Image.fromarray(pixels), io.BytesIO()
    picture.save(data, "PNG")
    kind = "png"
    if data.tell() > _PNG_BYTES:
        data, kind = io.BytesIO(), "jpeg"
        picture.save(data, "JPEG", quality=95)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"


def _logs(choice: dict[str, Any]) -> list[float] | None:
    """The log-probability of each token of the reply."""
    try:
        logs = [float(token["logprob"]) for token in choice["logprobs"]["content"]]
    except (KeyError, TypeError, ValueError):
        return None
    return logs if logs and all(math.isfinite(log) for log in logs) else None


def _reply(said: _Said | Rejected, choices: Sequence[str]) -> Reply | Rejected:
    if isinstance(said, Rejected):
        return said
    text, logs = " ".join(said.text.split()), said.logs
    if not choices:
        return Reply(text, None if logs is None else min(1.0, math.exp(sum(logs) / len(logs))))
    chosen = [choice for choice in choices if choice == text] or [one for one in choices if _bare(one) == _bare(text)]
    if len(chosen) != 1:
        return Rejected("", "no such choice", f"expected one of {', '.join(choices)}, got {text[:80]!r}")
    return Reply(chosen[0], None if logs is None else min(1.0, math.exp(sum(logs))))


def _bare(text: str) -> str:
    return " ".join(text.split()).strip("\"'`“”‘’").removesuffix(".").strip("\"'`“”‘’").casefold()


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


# ---------------------------------------------------------------- answers on disk


def _file(key: str) -> Path:
    return cache_dir() / "answers" / key[:2] / f"{key[2:]}.json"


def _read(file: Path) -> _Said | None:
    """An answer that was kept; None where there is none that can be read."""
    try:
        kept = json.loads(file.read_bytes())
        return _Said(str(kept["text"]), kept["logs"] and [float(log) for log in kept["logs"]])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, said: _Said) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
    partial.write_text(json.dumps(said._asdict()), encoding="utf-8")
    os.replace(partial, file)
