"""A model behind a chat address: right answers, and one sentence or one rejected question for whatever goes wrong."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from chat_server import ChatServer

from diptych import tasks
from diptych.capabilities import AnswersQuestions, DualEncoder, WritesCaptions
from diptych.models import endpoint_http, load, save
from diptych.models.endpoint import CAPTION, Endpoint
from diptych.types import InputError

KEY = "sk-the-secret"
COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}
BUSY = (500, {}, b'{"error": {"message": "overloaded"}}')


def square(name: str, side: int = 8) -> np.ndarray:
    return np.full((side, side, 3), COLOURS[name], np.uint8)


def colour(text: str, pictures: list[np.ndarray]) -> str:
    """The colours of the pictures, in words."""
    seen = [min(COLOURS, key=lambda name: np.abs(one[0, 0] - np.array(COLOURS[name])).sum()) for one in pictures]
    return " and ".join(seen)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[ChatServer]:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(endpoint_http, "_FIRST_WAIT", 0.01)
    made = ChatServer(colour)
    yield made
    made.close()


def model(server: ChatServer, **options: Any) -> Endpoint:
    found = load(f"{server.url}?model=tiny" + "".join(f"&{name}={value}" for name, value in options.items()))
    assert isinstance(found, Endpoint)
    return found


def test_captions_and_answers(server: ChatServer) -> None:
    ours = model(server, price_in=2, price_out=10)
    assert isinstance(ours, WritesCaptions) and isinstance(ours, AnswersQuestions) and not isinstance(ours, DualEncoder)
    found = tasks.caption(ours, [square("red"), b"?", square("blue")])
    assert [reply.text for reply in found.replies] == ["red", "blue"] and found.kept == [0, 2]
    assert found.replies[0].confidence == pytest.approx(np.exp(-0.3))
    several = tasks.answer(ours, [square("red"), [square("green"), square("blue")]], ["which?", "which two?"])
    assert [reply.text for reply in several.replies] == ["red", "green and blue"]
    assert sorted(body["messages"][0]["content"][-1]["text"] for body in server.bodies) == sorted(
        [CAPTION, CAPTION, "which?", "which two?"]
    )
    assert {(body["model"], body["temperature"]) for body in server.bodies} == {("tiny", 0)}
    used = ours.usage
    assert (used.requests, used.cached, used.tokens_in, used.tokens_out) == (4, 0, 400, 40)
    assert used.cost == pytest.approx(4 * (100 * 2 + 10 * 10) / 1e6)
    assert "4 answered by the server" in str(used) and "cost 0.0012" in str(used)
    assert model(server).usage.cost is None


def test_choices_must_be_met(server: ChatServer) -> None:
    said = {"a": "Red.", "b": '"blue"', "c": "I think it is red", "d": "GREEN", "e": "white"}
    server.reply = lambda text, pictures: said[text[0]]
    choices = ["red", "blue", "green"]
    found = tasks.answer(model(server), [square("red")] * 5, list(said), choices)
    assert [reply.text for reply in found.replies] == ["red", "blue", "green"] and found.kept == [0, 1, 3]
    assert [(bad.reason, bad.id) for bad in found.rejected] == [
        ("no such choice", "picture 2"),
        ("no such choice", "picture 4"),
    ]
    assert found.replies[0].confidence == pytest.approx(np.exp(-0.6))
    assert all('"red", "blue", "green"' in body["messages"][0]["content"][-1]["text"] for body in server.bodies)
    server.reply = lambda text, pictures: "A"
    assert tasks.answer(model(server), [square("red")], ["?"], ["a", "A"]).replies[0].text == "A"


def test_match_asks_yes_or_no(server: ChatServer) -> None:
    server.reply = lambda text, pictures: "yes" if colour("", pictures) in text else "No."
    found = tasks.match(model(server), [square("red"), square("blue")], [["a red car", "a blue car"], ["a blue car"]])
    assert np.allclose(np.concatenate(found.scores), [np.exp(-0.6), 1 - np.exp(-0.6), np.exp(-0.6)])
    server.logprobs = False
    found = tasks.match(model(server), [square("green")], [["a red car", "a green car"]])
    assert list(found.scores[0]) == [0, 1]


def test_the_same_question_is_paid_for_once(server: ChatServer) -> None:
    first = tasks.caption(model(server), [square("red"), square("blue")])
    ours = model(server, price_in=1)
    assert tasks.caption(ours, [square("blue"), square("red")]).replies == first.replies[::-1]
    assert len(server.bodies) == 2 and (ours.usage.requests, ours.usage.cached, ours.usage.cost) == (0, 2, 0.0)
    tasks.caption(ours, [square("red", side=9)])
    tasks.answer(ours, [square("red")], ["another text"])
    tasks.caption(load(f"{server.url}?model=other"), [square("red")])
    assert len(server.bodies) == 5, "another picture, text or model is another question"


def test_the_same_question_in_one_batch_is_asked_once(server: ChatServer) -> None:
    server.delay = 0.02
    ours = model(server)
    found = tasks.answer(ours, [square("red")] * 6, ["which?"] * 6, [["red", "blue"]] * 3 + [["red"]] * 3)
    assert [reply.text for reply in found.replies] == ["red"] * 6 and len(server.bodies) == 2
    assert ours.usage.requests == 2


def test_a_server_that_counts_no_tokens_is_said(server: ChatServer) -> None:
    uncounted = server.answer
    server.answer = lambda body: {"choices": uncounted(body)["choices"], "usage": None}  # type: ignore[method-assign]
    ours = model(server, price_in=1)
    tasks.caption(ours, [square("red")])
    assert str(ours.usage).endswith("cost 0.0000 (the server did not count the tokens of 1)")


def test_other_weights_behind_the_same_name_are_asked_anew(server: ChatServer) -> None:
    tasks.caption(model(server), [square("red")])
    server.reply = lambda text, pictures: "better words"
    assert tasks.caption(model(server), [square("red")]).replies[0].text == "red"
    anew = model(server, fresh="true")
    assert [tasks.caption(anew, [square("red")]).replies[0].text for _ in range(2)] == ["better words"] * 2
    assert len(server.bodies) == 2
    assert tasks.caption(model(server), [square("red")]).replies[0].text == "better words"


def test_a_model_that_thinks_can_be_given_room(server: ChatServer) -> None:
    def long(handler: Any) -> None:
        choice = {"message": {"content": ""}, "finish_reason": "length"}
        server.send(handler, 200, {}, json.dumps({"choices": [choice]}).encode())

    server.faults = [(200, {}, long)]
    found = tasks.caption(model(server), [square("red")])
    assert "'length'; give it more room with &max_tokens=" in found.rejected[0].detail
    assert tasks.caption(model(server, max_tokens=4000), [square("red")]).replies[0].text == "red"
    assert [body["max_tokens"] for body in server.bodies] == [96, 4000]


def test_a_broken_file_in_the_cache_is_asked_again(server: ChatServer, tmp_path: Any) -> None:
    tasks.caption(model(server), [square("red")])
    (kept,) = (tmp_path / "answers").rglob("*.json")
    assert KEY not in kept.read_text()
    for text in ("{", "[]", '{"text": "red", "logs": 3}'):
        kept.write_text(text)
        assert tasks.caption(model(server), [square("red")]).replies[0].text == "red"
    assert len(server.bodies) == 4


def test_a_large_picture_goes_out_as_jpeg(server: ChatServer) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    tasks.caption(model(server), [noise, square("red")])
    kinds = {body["messages"][0]["content"][0]["image_url"]["url"][:15] for body in server.bodies}
    assert kinds == {"data:image/jpeg", "data:image/png;"}


def truncated(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"mess')


def hangs_up(handler: Any) -> None:
    handler.connection.close()


def slow(handler: Any) -> None:
    time.sleep(0.8)
    hangs_up(handler)


FAULTS = {
    "500 twice": [BUSY, BUSY],
    "429": [(429, {"Retry-After": "0.2"}, b"slow down")],
    "truncated": [(200, {}, truncated)],
    "no JSON": [(200, {}, b"<html>")],
    "no object": [(200, {}, b"[]")],
    "hangs up": [(200, {}, b'{"choices"'), (0, {}, hangs_up)],
    "slow": [(0, {}, slow)],
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_passes_is_waited_for(name: str, server: ChatServer) -> None:
    server.faults = list(FAULTS[name])
    ours = model(server, timeout=0.5 if name == "slow" else 30)
    assert [reply.text for reply in tasks.caption(ours, [square("red")]).replies] == ["red"]
    assert len(server.bodies) == len(FAULTS[name]) + 1 and ours.usage.retried == len(FAULTS[name])
    waited = server.times[1] - server.times[0]
    assert waited >= (0.2 if name == "429" else 0.01)


def test_waits_grow_and_end(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_http, "_FIRST_WAIT", 0.05)
    server.faults = [BUSY] * 4
    found = tasks.caption(model(server, retries=3), [square("red")])
    assert not found.replies and found.rejected[0].reason == "server error"
    assert "HTTP 500: overloaded" in found.rejected[0].detail
    waits = np.diff(server.times)
    assert len(waits) == 3 and all(wait >= least for wait, least in zip(waits, (0.05, 0.1, 0.2)))


def test_one_question_that_fails_loses_no_other(server: ChatServer) -> None:
    bad = {"role": "assistant", "content": None, "refusal": "I cannot say that"}
    server.reply = lambda text, pictures: {"red": bad, "green": ""}.get(colour(text, pictures), "blue")
    found = tasks.caption(model(server), [square("red"), square("blue"), square("green")])
    assert [reply.text for reply in found.replies] == ["blue"] and found.kept == [1]
    assert [bad.reason for bad in found.rejected] == ["refused", "empty answer"]
    server.reply = colour
    server.faults = [(400, {}, b'{"error": {"message": "this picture is too small"}}')]
    found = tasks.caption(model(server, concurrency=1), [square("red"), square("green")])
    assert found.kept == [1] and "HTTP 400: this picture is too small" in found.rejected[0].detail
    server.faults = [(429, {"Retry-After": "3600"}, b"{}")]
    start = time.monotonic()
    found = tasks.caption(model(server), [square("red", side=9)])
    assert found.rejected[0].reason == "rate limit" and time.monotonic() - start < 5, "nobody waits an hour"
    server.faults = [(200, {}, b'{"choices": []}')]
    assert tasks.caption(model(server), [square("red", side=10)]).rejected[0].reason == "broken answer"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "the server refuses the key; set OPENAI_API_KEY .HTTP 401: wrong key \\*\\*\\*"),
        (402, "wants to be paid first"),
        (403, "forbids it for this key"),
        (404, "no such address or model"),
        (307, "sends us elsewhere"),
    ],
)
def test_what_concerns_all_questions_ends_the_run(
    status: int, message: str, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    server.faults = [(status, {"Location": "http://127.0.0.1:9/"}, f"wrong key {KEY}".encode())] * 9
    ours = model(server)
    with pytest.raises(InputError, match=message) as caught:
        tasks.caption(ours, [square(name) for name in COLOURS])
    assert "\n" not in str(caught.value) and KEY not in str(caught.value) and server.url in str(caught.value)
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    assert KEY not in repr(vars(ours)) + repr(vars(ours._http))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ask")]


def test_ten_failures_in_a_row_end_the_run(server: ChatServer) -> None:
    server.faults = [BUSY] * 100
    images = [square("red", side) for side in range(1, 30)]
    with pytest.raises(InputError, match="10 questions in a row failed; the last: server error: .*HTTP 500"):
        tasks.caption(model(server, retries=0), images)
    assert len(server.bodies) < 29
    server.faults = [BUSY] * 9
    assert len(tasks.caption(model(server, retries=0), images).rejected) == 9


def test_a_server_that_is_not_there(server: ChatServer) -> None:
    with pytest.raises(InputError, match="http://127.0.0.1:9/v1/chat/completions: no connection: "):
        tasks.caption(load("http://127.0.0.1:9/v1?model=x&retries=1"), [square("red")])


def test_what_a_server_does_not_know_is_left_out(server: ChatServer) -> None:
    server.faults = [
        (400, {}, b'{"error": {"message": "logprobs is not supported by this model"}}'),
        (400, {}, b'{"error": {"message": "Unsupported parameter: max_tokens, use max_completion_tokens"}}'),
        (422, {}, b'{"detail": "temperature: must be 1"}'),
    ]
    ours = model(server, concurrency=1)
    found = tasks.caption(ours, [square("red"), square("blue")])
    assert [reply.confidence for reply in found.replies] == [None, None] and len(server.bodies) == 5
    assert set(server.bodies[-1]) == {"model", "messages", "max_completion_tokens"} and ours.usage.retried == 0


def test_no_more_at_once_and_a_minute_than_allowed(server: ChatServer) -> None:
    server.delay = 0.05
    images = [square("red", side) for side in range(1, 13)]
    found = tasks.caption(model(server, concurrency=3), images)
    assert len(found.replies) == 12 and server.at_once == 3
    server.times.clear()
    server.delay = 0.0
    tasks.answer(model(server, concurrency=8, rpm=1200), images[:6], ["which?"] * 6)
    assert server.times[-1] - server.times[0] >= 5 * 0.05 - 0.02


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://h/v1", "expected the model's name as '?model=NAME'"),
        ("http://h/v1?model=", "expected the model's name"),
        ("https:///v1?model=x", "expected 'http(s)://HOST[:PORT]/v1?model=NAME'"),
        (f"https://h/v1?model=x&api_key={KEY}", "unknown option 'api_key'; expected model, rpm, concurrency"),
        (f"https://user:{KEY}@h/v1?model=x", "expected no user or password; the key comes from OPENAI_API_KEY"),
        ("http://h/v1?model=x&rpm=fast", "rpm"),
        ("http://h/v1?model=x&max_tokens=0", "max_tokens: expected more than 0, got 0"),
        ("http://h:80a/v1?model=x", "expected 'http(s)://HOST[:PORT]/v1?model=NAME': Port could not be cast"),
        ("http://[h/v1?model=x", "expected 'http(s)://HOST[:PORT]/v1?model=NAME': Invalid IPv6 URL"),
        ("http://h/v1?model=x&rpm=0", "rpm: expected more than 0, got 0"),
        ("http://h/v1?model=x&retries=-1", "retries: expected 0 or more"),
    ],
)
def test_addresses_that_are_wrong(address: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(address)
    assert message in str(caught.value) and KEY not in str(caught.value) and "\n" not in str(caught.value)


def test_it_cannot_be_saved(server: ChatServer, tmp_path: Any) -> None:
    with pytest.raises(InputError, match="model=tiny: expected a model of a Diptych family to save"):
        save(model(server), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_the_wire_is_plain_json(server: ChatServer) -> None:
    tasks.answer(model(server), [square("red")], ["wo ist die Tür?"], ["über", "unter"])
    (body,) = server.bodies
    assert json.loads(json.dumps(body)) == body
    assert body["messages"][0]["content"][-1]["text"].startswith("wo ist die Tür?\n")
    assert '"über", "unter"' in body["messages"][0]["content"][-1]["text"]
