"""The parts of a fetch without a network: addresses, rights, contents, and the order of requests."""

import gzip
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_pictures import jpeg, png

from diptych.data.fetch import FetchOptions
from diptych.data.fetch.addresses import clean_url, is_public
from diptych.data.fetch.client import _wait
from diptych.data.fetch.content import Body, prove
from diptych.data.fetch.options import ALL
from diptych.data.fetch.output import retried_reasons
from diptych.data.fetch.reasons import LASTING, PASSING, Failed, of_status
from diptych.data.fetch.rights import Robots, header_refusal
from diptych.data.fetch.schedule import GIVE_UP_AFTER, Job, Schedule, note_end, shut_reason
from diptych.types import InputError, Sample

# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1"),
        *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
        *("", "localhost", "1.2.3", "not an address"),
    ],
)
def test_private_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("http://a.example", "http://a.example/"),
        ("  https://a.example/b c?d=e#f ", "https://a.example/b c?d=e"),
        ("HTTP://a.example/x", "http://a.example/x"),
    ],
)
def test_urls_are_cleaned(url: str, clean: str) -> None:
    assert clean_url(url) == clean


@pytest.mark.parametrize(
    "url",
    [
        *(
            "ftp://a.example/x",
            "file:///etc/passwd",
            "//a.example/x",
            "a.example/x",
            "",
            "http://",
            "data:image/png;base64,",
        ),
        *(
            "http://a.example:99999/",
            "http://[::1/",
            "http://user:word@a.example/",
            "http://a.example/\nHost: b",
            "http://a/\ud800",
        ),
        "http://a.example/" + "x" * 9000,
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        clean_url(url)


def test_a_redirect_is_resolved_against_where_it_came_from() -> None:
    assert clean_url("../c.jpg?x#y", base="http://a.example/b/d/e") == "http://a.example/b/c.jpg?x"
    with pytest.raises(ValueError, match="http or https"):
        clean_url("file:///etc/passwd", base="http://a.example/")


# ---------------------------------------------------------------- rights


@pytest.mark.parametrize(
    ("tags", "refused"),
    [
        (["noai"], True),
        (["NoAI, noimageai"], True),
        (["nofollow", "noindex"], True),
        (["none"], True),
        (["mine: noai"], True),
        (["*: noimageindex"], True),
        (["otherbot: noai"], False),
        (["otherbot: nofollow, noai"], False),  # the name counts up to the next name
        (["otherbot: nofollow, mine: noai"], True),
        (["unavailable_after: 25 Jun 2010 15:00:00 PST, noai"], True),  # a directive with a value is no name
        (["max-snippet: 20, noarchive, nosnippet"], False),
        ([""], False),
        ([], False),
    ],
)
def test_robots_headers(tags: list[str], refused: bool) -> None:
    reason = header_refusal(tags, [], "mine")
    assert (reason is not None) == refused
    assert reason is None or reason[0] == "refused by X-Robots-Tag"


def test_text_and_data_mining_reservation() -> None:
    assert header_refusal([], ["1"], "mine") == ("refused by TDM-Reservation", "1")
    assert header_refusal([], ["0"], "mine") is None


def test_robots_txt() -> None:
    text = "User-agent: mine\nDisallow: /private\nCrawl-delay: 2\n\nUser-agent: *\nDisallow: /\n"
    mine, other, none = Robots(text, "mine"), Robots(text, "other"), Robots("", "mine")
    assert mine.allows("http://a/x") and not mine.allows("http://a/private/x") and mine.delay == 2.0
    assert not other.allows("http://a/x") and other.delay == 0.0
    assert none.allows("http://a/private/x")


def test_our_name_is_the_first_word() -> None:
    assert FetchOptions(user_agent="My-Crawler/1.0 (+http://a)").agent == "my-crawler"


@pytest.mark.parametrize(
    "wrong",
    [{"connections": 0}, {"deadline": -1.0}, {"user_agent": ""}, {"user_agent": "a\nb"}, {"silence": float("nan")}],
)
def test_wrong_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FetchOptions(**wrong)


def test_how_long_a_server_asks_to_wait() -> None:
    assert _wait({"Retry-After": " 120 "}) == 120.0
    assert _wait({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 95.0 < (_wait({"Retry-After": soon}) or 0.0) <= 100.0
    assert _wait({}) is _wait({"Retry-After": "soon"}) is _wait({"Retry-After": "-5"}) is None


# ---------------------------------------------------------------- content


def fed(data: bytes, limit: int = 10_000, encoding: str = "", step: int = 7) -> bytes:
    body = Body(limit, encoding)
    for i in range(0, len(data), step):
        body.add(data[i : i + step])
    return body.end()


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_body_arrives_in_pieces(encoding: str) -> None:
    data = jpeg()
    assert fed(gzip.compress(data) if encoding else data, encoding=encoding) == data


@pytest.mark.parametrize(
    ("data", "encoding", "reason"),
    [
        (b"", "", "image empty"),
        (b"<html>" + b" " * 100, "", "image not recognised"),
        (b"GIF9", "", "image not recognised"),
        (jpeg() + b"\0" * 10_000, "", "file too large"),
        (gzip.compress(jpeg() + b"\0" * 10_000_000), "gzip", "file too large"),
        (gzip.compress(jpeg()) + b"x" * 20_000, "gzip", "file too large"),
        (gzip.compress(jpeg())[:200], "gzip", "image truncated"),
        (b"no gzip at all", "gzip", "image corrupt"),
        (jpeg(), "br", "encoding not supported"),
    ],
)
def test_bodies_that_are_refused(data: bytes, encoding: str, reason: str) -> None:
    with pytest.raises(Failed) as failed:
        fed(data, encoding=encoding)
    assert failed.value.reason == reason


def test_a_bomb_in_a_compressed_body_is_never_unpacked_whole() -> None:
    body = Body(1000, "gzip")
    with pytest.raises(Failed, match="file too large"):
        body.add(gzip.compress(jpeg()[:20] + b"\0" * 10_000_000))
    assert len(body._data) <= 1001


def test_a_picture_is_proved_by_decoding() -> None:
    assert prove(png(), 1000) == prove(png(), 1000) != prove(jpeg(), 1000)
    for data, pixels, reason in ((png()[:-30], 1000, "image truncated"), (png(), 100, "image too large")):
        with pytest.raises(Failed) as failed:
            prove(data, pixels)
        assert failed.value.reason == reason


# ---------------------------------------------------------------- the order of requests


def job(url: str, row: int = 0) -> Job:
    return Job(row, url, Sample(str(row)), [], url)


def started(schedule: Schedule, now: float) -> list[int]:
    rows = []
    while found := schedule.start(now):
        rows.append(found[1].row)
    return rows


def test_at_most_so_many_at_once_for_each_host() -> None:
    schedule = Schedule(per_host=2, delay=0, probe=False)
    for row in range(6):
        schedule.add(job(f"http://{'ab'[row % 2]}/x", row))
    assert started(schedule, 0.0) == [0, 1, 2, 3]
    assert len(schedule) == 2
    assert schedule.next_time() == float("inf")


def test_a_host_gets_its_next_request_when_one_has_ended() -> None:
    schedule = Schedule(per_host=1, delay=0, probe=False)
    for row in range(2):
        schedule.add(job("http://a/x", row))
    host, _ = schedule.start(0.0) or (None, None)
    assert host is not None and schedule.start(0.0) is None
    schedule.finish(host)
    assert started(schedule, 0.0) == [1]


def test_delay_between_requests_to_one_host() -> None:
    schedule = Schedule(per_host=9, delay=1.5, probe=False)
    for row in range(3):
        schedule.add(job("http://a/x", row))
    assert started(schedule, 10.0) == [0]
    assert schedule.next_time() == 11.5
    assert started(schedule, 11.4) == [] and started(schedule, 11.5) == [1]


def test_one_request_until_the_rules_of_a_host_are_known() -> None:
    schedule = Schedule(per_host=9, delay=0, probe=True)
    for row in range(3):
        schedule.add(job("http://a/x", row))
    host, _ = schedule.start(0.0) or (None, None)
    assert host is not None and schedule.start(0.0) is None
    host.robots = Robots("User-agent: *\nCrawl-delay: 3", "mine")
    schedule.finish(host)
    assert started(schedule, 0.0) == [1]
    assert schedule.next_time() == 3.0


def test_a_retry_waits_without_blocking_its_host() -> None:
    schedule = Schedule(per_host=1, delay=0, probe=False)
    schedule.add_later(job("http://a/x", 0), when=5.0)
    schedule.add(job("http://a/x", 1))
    host, first = schedule.start(0.0) or (None, None)
    assert host is not None and first is not None and first.row == 1
    schedule.finish(host)
    assert started(schedule, 4.9) == [] and schedule.next_time() == 5.0 and len(schedule) == 1
    assert started(schedule, 5.0) == [0]


def test_a_host_that_only_fails_is_given_up_for_a_while() -> None:
    schedule = Schedule(per_host=99, delay=0, probe=False)
    schedule.add(job("http://a/x"))
    host, _ = schedule.start(0.0) or (None, None)
    assert host is not None
    for _ in range(GIVE_UP_AFTER - 1):
        note_end(host, "connection refused", 0.0)
    assert shut_reason(host, 0.0) is None
    note_end(host, "not found", 0.0)  # an answer: the host lives
    note_end(host, "connection refused", 0.0)
    assert shut_reason(host, 0.0) is None
    for _ in range(GIVE_UP_AFTER):
        note_end(host, "connection refused", 0.0)
    assert (shut_reason(host, 1.0) or ("",))[0] == "host given up"
    assert shut_reason(host, 4000.0) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=60), st.integers(1, 3))
def test_every_job_starts_once_and_no_host_has_too_many(jobs: list[tuple[int, int]], per_host: int) -> None:
    schedule = Schedule(per_host, delay=0, probe=False)
    for row, (host_number, when) in enumerate(jobs):
        schedule.add_later(job(f"http://h{host_number}/x", row), float(when))
    seen, active, now = [], [], 0.0
    while len(seen) < len(jobs):
        if (found := schedule.start(now)) is not None:
            seen.append(found[1].row)
            active.append(found[0])
            assert max(active.count(h) for h in active) <= per_host
            assert jobs[found[1].row][1] <= now
        elif active:
            schedule.finish(active.pop(0))
        else:
            now = max(now, schedule.next_time())
    assert sorted(seen) == list(range(len(jobs)))


def test_what_is_tried_again() -> None:
    assert not PASSING & LASTING
    assert retried_reasons((), PASSING) == PASSING
    assert retried_reasons(("not found",), PASSING) == PASSING | {"not found"}
    assert retried_reasons((ALL,), PASSING) == PASSING | LASTING
    with pytest.raises(InputError, match="no reason 'nonsense'; the reasons are .*not found"):
        retried_reasons(("nonsense",), PASSING)
    assert {of_status(status) for status in range(100, 600)} <= PASSING | LASTING
