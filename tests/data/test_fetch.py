"""The parts of a fetch without a network: addresses, rights, the order of requests, tables, and what lies on disk."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_pictures import jpeg, png

from diptych.data.fetch import FetchOptions
from diptych.data.fetch.addresses import clean_url, is_public
from diptych.data.fetch.content import Body, prove
from diptych.data.fetch.ledger import Ledger
from diptych.data.fetch.options import ALL
from diptych.data.fetch.output import retried_reasons
from diptych.data.fetch.reasons import LASTING, PASSING, Failed, of_status
from diptych.data.fetch.rights import Robots, header_refusal
from diptych.data.fetch.schedule import GIVE_UP_AFTER, Job, Schedule, note_end, shut_reason
from diptych.data.fetch.spool import Spool
from diptych.data.fetch.survey import Refused, Survey, Wanted
from diptych.data.fetch.tables import open_table
from diptych.types import EncodedImage, InputError, Mask, Object, Rejected, Sample

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
        body.add(gzip.compress(jpeg()[:20] + b"\0" * 100_000_000))
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


# ---------------------------------------------------------------- tables


def rows_of(path: Path) -> list[Sample | Rejected]:
    return list(open_table(path)())


def urls_of(path: Path) -> list[str | None]:
    return [row.images[0].path if isinstance(row, Sample) else f"({row.reason})" for row in rows_of(path)]


def table(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_csv_with_a_column_of_urls(tmp_path: Path) -> None:
    path = table(tmp_path, "t.csv", 'URL,Text,License,width\nhttp://a/1,one,cc-by,5\nhttp://a/2,"two, or\nmore",,6\n')
    one, two = rows_of(path)
    assert isinstance(one, Sample) and isinstance(two, Sample)
    assert (one.url, one.captions, one.license, one.texts) == ("http://a/1", ["one"], "cc-by", {"width": "5"})
    assert two.captions == ["two, or\nmore"] and (one.id, two.id) == ("t.csv:2", "t.csv:3")


def test_the_picture_is_taken_and_not_the_page(tmp_path: Path) -> None:
    (row,) = rows_of(table(tmp_path, "t.tsv", "url\timage_url\tcaption\nhttp://a/page\thttp://a/1.jpg\tc\n"))
    assert isinstance(row, Sample)
    assert (row.images, row.url) == ([EncodedImage(None, "http://a/1.jpg")], "http://a/page")


def test_lists_of_urls_need_no_header(tmp_path: Path) -> None:
    assert urls_of(table(tmp_path, "t.txt", "http://a/1\nhttp://a/2\n")) == ["http://a/1", "http://a/2"]
    path = table(tmp_path, "u.tsv", "a cat\thttp://a/1\na dog\thttp://a/2\n")
    assert [row.captions for row in rows_of(path) if isinstance(row, Sample)] == [["a cat"], ["a dog"]]


def test_json_lines_with_changing_fields(tmp_path: Path) -> None:
    lines = ['{"url": "http://a/1", "caption": "x"}', '{"caption": "y", "image_url": "http://a/2"}', "", "{broken"]
    lines += ['{"caption": "z"}', '{"url": null}', "[1]", '{"url": 7}']
    expected = [
        "http://a/1",
        "http://a/2",
        "(row broken)",
        "(url missing)",
        "(url missing)",
        "(row broken)",
        "(url missing)",
    ]
    assert urls_of(table(tmp_path, "t.jsonl", "\n".join(lines))) == expected


def test_a_broken_row_costs_itself_only(tmp_path: Path) -> None:
    text = 'url,caption\nhttp://a/1,"never ends\nhttp://a/2,two\nhttp://a/3,a "quoted" word\nhttp://a/4,too,many\n\nhttp://a/5,five\n'
    expected = ["(row broken)", "http://a/2", "http://a/3", "(row broken)", "http://a/5"]
    assert urls_of(table(tmp_path, "t.csv", text)) == expected


def test_encodings(tmp_path: Path) -> None:
    assert urls_of(table(tmp_path, "a.csv", b"\xef\xbb\xbfurl\nhttp://a/1\n")) == ["http://a/1"]
    assert urls_of(table(tmp_path, "b.csv", "url,caption\r\nhttp://a/1,é\r\n".encode("utf-16"))) == ["http://a/1"]
    assert urls_of(table(tmp_path, "c.csv", b"url,caption\nhttp://a/1,\xff\n")) == ["(caption not UTF-8)"]


def test_parquet_without_captions_and_a_folder_of_tables(tmp_path: Path) -> None:
    for i in range(2):
        pq.write_table(pa.table({"url": [f"http://a/{i}", None]}), tmp_path / f"part-{i}.parquet")
    assert urls_of(tmp_path / "part-0.parquet") == ["http://a/0", "(url missing)"]
    assert urls_of(tmp_path) == ["http://a/0", "(url missing)", "http://a/1", "(url missing)"]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (
            "t.csv",
            "file_name,caption\na.jpg,x\n",
            "column of URLs called url, image_url or alike; found file_name, caption",
        ),
        ("t.csv", "", "column of URLs"),
        ("t.jsonl", '{"a": 1}\n', "column of URLs"),
        ("t.parquet", "PAR1 no", "cannot be read as Parquet"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        open_table(table(tmp_path, name, text))
    with pytest.raises(InputError, match="no such file"):
        open_table(tmp_path / "nothing.csv")


# ---------------------------------------------------------------- the survey


def test_rows_of_one_url_come_together(tmp_path: Path) -> None:
    text = "url,caption,license\n"
    text += "http://a/1,a,cc\nhttp://a/2,b,cc\nhttp://a/1#top,c,cc\nftp://a/3,d,cc\nhttp://a/1,e,no\nhttp://a/1,f,CC\n"
    survey = Survey(open_table(table(tmp_path, "t.csv", text)), ["cc*"], tmp_path)
    walked = list(survey.walk())
    wanted = [row for row in walked if isinstance(row, Wanted)]
    assert survey.rows == 6
    assert [(w.row, w.url, [n for n, _ in w.others]) for w in wanted] == [
        (0, "http://a/1", [2, 5]),
        (1, "http://a/2", []),
    ]
    assert [sample.captions for _, sample in wanted[0].others] == [["c"], ["f"]]
    assert [(r.row, r.why.reason) for r in walked if isinstance(r, Refused)] == [
        (3, "url not valid"),
        (4, "license not asked for"),
    ]


def test_ids_are_unique_and_plain(tmp_path: Path) -> None:
    rows = [Sample("a", url="http://a/1"), Sample("../b\n\x00", url="http://a/2"), Sample("a", url="http://a/3")]
    rows += [Sample("x" * 999, url="http://a/4"), Sample("", url="http://a/5")]
    found = [w.sample.id for w in Survey(lambda: iter(rows), [], tmp_path).walk() if isinstance(w, Wanted)]
    assert found == ["a#0", "../b_#1", "a#2", "x" * 200 + "#3", "#4"]


def test_the_digest_tells_tables_and_licenses_apart(tmp_path: Path) -> None:
    def digest(*urls: str, licenses: tuple[str, ...] = ()) -> str:
        rows = [Sample(str(i), url=url, license="x") for i, url in enumerate(urls)]
        return Survey(lambda: iter(rows), licenses, tmp_path).digest

    one = digest("http://a/1", "http://a/2")
    assert one == digest("http://a/1", "http://a/2")
    others = [
        digest("http://a/2", "http://a/1"),
        digest("http://a/1"),
        digest("http://a/1", "http://a/2", licenses=("x",)),
    ]
    assert len({one, *others}) == 4


# ---------------------------------------------------------------- what lies on disk


def failed_line(row: int, reason: str) -> dict[str, Any]:
    return {"row": row, "id": str(row), "host": "a", "status": "failed", "reason": reason, "detail": ""}


def fetched_line(row: int, shard: int = 0) -> dict[str, Any]:
    return {"row": row, "id": str(row), "host": "a", "status": "fetched", "shard": shard, "bytes": 10}


def test_the_last_line_of_a_row_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "log", 4)
    ledger.write([failed_line(0, "not found"), failed_line(1, "gone"), failed_line(2, "gone")])
    ledger.write([fetched_line(0), failed_line(1, "not found"), failed_line(2, "gone")])
    ledger.close()
    again = Ledger(tmp_path / "log", 4)
    again.load({0}, unsure=1)
    for one in (ledger, again):
        assert one.counts() == {"fetched": 1, "not found": 1, "gone": 1, "open": 1}
        assert one.worst_hosts() == {"a": {"fetched": 1, "not found": 1, "gone": 1}}
        assert [(line["row"], line["reason"]) for line in one.failures()] == [(2, "gone"), (1, "not found")]
    again.close()


def test_a_torn_line_and_garbage_cost_themselves_only(tmp_path: Path) -> None:
    good = json.dumps(failed_line(1, "gone")).encode() + b"\n"
    (tmp_path / "log").write_bytes(b'{"row": 99}\n\0\0\0\n[]\n' + good + b'{"row": 2, "stat')
    ledger = Ledger(tmp_path / "log", 3)
    ledger.load(set(), unsure=0)
    ledger.write([failed_line(0, "gone")])
    ledger.close()
    assert (tmp_path / "log").read_bytes().endswith(good + json.dumps(failed_line(0, "gone")).encode() + b"\n")
    assert ledger.counts() == {"gone": 2, "open": 1}


def test_pictures_of_a_shard_that_is_gone_are_open_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "log", 3)
    ledger.write([failed_line(0, "gone"), fetched_line(0, 0), fetched_line(1, 1), fetched_line(2, 2)])
    ledger.close()
    again = Ledger(tmp_path / "log", 3)
    assert [*again.load({1}, unsure=2)] == [2]
    assert again.counts() == {"open": 2, "fetched": 1}
    again.close()


def sample_with_everything() -> Sample:
    thing = Object("cat", (0.0, 1.0, 2.0, 3.0), Mask(4, 5, b"\xff\x00abc"))
    return Sample("é", [EncodedImage(jpeg())], ["a", "b"], objects=[thing], texts={"title": "t"}, scores={"s": 0.5})


def test_a_spool_survives_a_cut_at_any_byte(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 0)
    ends = []
    for row in (2, 0, 1):
        spool.add([fetched_line(row)], sample_with_everything())
        ends.append(spool.size)
    spool.close()
    data = spool.path.read_bytes()
    assert len(data) == ends[-1]
    for cut in sorted({*range(0, len(data), 97), *ends, *(end - 1 for end in ends), *(end + 1 for end in ends[:-1])}):
        spool.path.write_bytes(data[:cut])
        again = Spool(tmp_path, 0)
        whole = [end for end in ends if end <= cut]
        assert [record.row for record in again.recover()] == [2, 0, 1][: len(whole)]
        assert spool.path.stat().st_size == (whole or [0])[-1]
        assert list(again.samples()) == [sample_with_everything()] * len(whole)
        again.close()


def test_a_spool_does_not_believe_damaged_records(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 0)
    for row in range(2):
        spool.add([fetched_line(row)], sample_with_everything())
    spool.close()
    data = bytearray(spool.path.read_bytes())
    data[-5] ^= 1
    spool.path.write_bytes(data)
    again = Spool(tmp_path, 0)
    assert [record.row for record in again.recover()] == [0]
    again.close()


def test_what_is_tried_again() -> None:
    assert not PASSING & LASTING
    assert retried_reasons((), PASSING) == PASSING
    assert retried_reasons(("not found",), PASSING) == PASSING | {"not found"}
    assert retried_reasons((ALL,), PASSING) == PASSING | LASTING
    with pytest.raises(InputError, match="no reason 'nonsense'; the reasons are .*not found"):
        retried_reasons(("nonsense",), PASSING)
    assert {of_status(status) for status in range(100, 600)} <= PASSING | LASTING
