"""A fetch against a real server that misbehaves in every way: everything is accounted for, nothing is asked twice."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_server import BEHAVIOURS, BadServer, loopback_is_public, picture

from diptych.cli import main
from diptych.data import DatasetWriter, open_dataset
from diptych.data.fetch import FetchOptions, FetchReport, fetch
from diptych.data.fetch.reasons import PASSING
from diptych.types import InputError, Sample

pytest.importorskip("aiohttp")

QUICK = FetchOptions(connect=2, silence=1, deadline=2.5, backoff=0.02, longest_wait=2, max_bytes=4 << 20)

EXPECTED = {  # what a picture of each behaviour ends as; None: fetched
    **dict.fromkeys(("ok", "gzipped", "slow", "moved", "once", "busy", "noai-other", "traversal")),
    **dict.fromkeys(("never", "drip"), "deadline passed"),
    **dict.fromkeys(("half", "unannounced"), "image truncated"),
    **dict.fromkeys(("html", "exe"), "image not recognised"),
    **dict.fromkeys(("giant", "endless", "gzip-bomb"), "file too large"),
    **dict.fromkeys(("file", "nowhere"), "redirect not valid"),
    **dict.fromkeys(("500", "sick"), "server error"),
    **dict.fromkeys(("long-header", "bad-header", "nonsense", "wrong-length"), "answer not valid"),
    "reset": "connection reset",
    "circle": "redirect loop",
    "spiral": "too many redirects",
    "private": "private address",
    "bomb": "image too large",
    "brotli": "encoding not supported",
    "404": "not found",
    "410": "gone",
    "403": "forbidden",
    "418": "request refused",
    "204": "status unexpected",
    "come-back-tomorrow": "too many requests",
    "empty": "image empty",
    "noai": "refused by X-Robots-Tag",
    "tdm": "refused by TDM-Reservation",
}


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as running, loopback_is_public():
        yield running


def table(folder: Path, urls: list[str], captions: list[str] | None = None) -> Path:
    path = folder / "urls.csv"
    captions = captions or [f"caption {i}" for i in range(len(urls))]
    path.write_text("url,caption\n" + "".join(f"{url},{caption}\n" for url, caption in zip(urls, captions)))
    return path


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "fetch" / "log.jsonl").read_text().splitlines()]


def assert_accounted(report: FetchReport) -> None:
    assert report.fetched + report.merged + report.not_tried + sum(report.failed.values()) == report.rows


def test_every_misbehaviour_has_its_reason_and_the_second_run_asks_for_what_may_have_passed(
    tmp_path: Path, server: BadServer
) -> None:
    assert set(EXPECTED) == set(BEHAVIOURS)
    kinds = [kind for kind in BEHAVIOURS for _ in range(2)] + ["ok"] * 150
    # each behaviour on two hosts of its own, so that none spoils another; the sound ones shared by ten
    hosts = [i + 11 if i < 2 * len(BEHAVIOURS) else i % 10 + 1 for i in range(len(kinds))]
    urls = [server.url(f"{kind}/{i}.jpg", hosts[i]) for i, kind in enumerate(kinds)]
    report = fetch(table(tmp_path, urls), tmp_path / "out", QUICK)

    assert report.failed == Counter(EXPECTED[kind] for kind in kinds if EXPECTED[kind] is not None)
    assert report.fetched == sum(EXPECTED[kind] is None for kind in kinds)
    assert_accounted(report)
    resets = 2 * QUICK.attempts  # HTTP lets a client ask again at once when a connection that it kept was closed
    assert 0 <= server.total() - report.requests <= resets
    ended = {line["row"]: line.get("reason") for line in log_of(tmp_path / "out")}
    assert ended == {i: EXPECTED[kind] for i, kind in enumerate(kinds)}
    dataset = open_dataset(tmp_path / "out")
    assert {url.split("/")[3] for url in dataset.column("url")} == {
        k for k, reason in EXPECTED.items() if reason is None
    }
    for sample in dataset:
        path = "/" + (sample.url or "").split("/", 3)[3]
        if path.startswith("/ok/"):
            assert sample.images[0].data == picture(path)
    assert Counter(row.reason for row in dataset.quarantine()) == report.failed == dataset.card["rejected"]

    server.requests.clear()
    server.healed = True
    again = fetch(table(tmp_path, urls), tmp_path / "out", QUICK)
    asked = {path.split("/")[1] for path in server.paths()}
    assert asked == {kind for kind, reason in EXPECTED.items() if reason in PASSING}
    assert again.fetched == report.fetched + 2  # the sick are healed
    assert again.failed == {k: n for k, n in report.failed.items() if k != "server error"} | {"server error": 2}
    assert_accounted(again)
    assert len(open_dataset(tmp_path / "out")) == again.fetched


def test_a_run_after_success_asks_for_nothing(tmp_path: Path, server: BadServer) -> None:
    path = table(tmp_path, [server.url(f"ok/{i}.jpg") for i in range(5)])
    first = fetch(path, tmp_path / "out", QUICK)
    server.requests.clear()
    second = fetch(path, tmp_path / "out", QUICK)
    assert (first.fetched, second.fetched, second.requests, server.total()) == (5, 5, 0, 0)


def test_lasting_failures_are_asked_again_on_request(tmp_path: Path, server: BadServer) -> None:
    path = table(tmp_path, [server.url(f"{kind}/1.jpg") for kind in ("404", "410", "ok")])
    fetch(path, tmp_path / "out", QUICK)
    for retry, asked in (((), set()), (("not found",), {"/404/1.jpg"}), (("all",), {"/404/1.jpg", "/410/1.jpg"})):
        server.requests.clear()
        report = fetch(path, tmp_path / "out", FetchOptions(retry=retry))
        assert set(server.paths()) == asked
        assert (report.fetched, report.failed) == (1, {"not found": 1, "gone": 1})


def test_one_url_is_fetched_once_and_its_captions_come_together(tmp_path: Path, server: BadServer) -> None:
    one, two = server.url("ok/1.jpg"), server.url("404/2.jpg")
    path = table(tmp_path, [one, two, one + "#top", one, two], ["a", "b", "c", "a", "d"])
    report = fetch(path, tmp_path / "out", QUICK)
    (sample,) = open_dataset(tmp_path / "out")
    assert (sample.captions, sample.id) == (["a", "c"], "urls.csv:2")
    assert (report.fetched, report.merged, report.failed) == (1, 2, {"not found": 2})
    assert server.paths() == {"/ok/1.jpg": 1, "/404/2.jpg": 1}
    assert [(line["row"], line["into"]) for line in log_of(tmp_path / "out") if line["status"] == "merged"] == [
        (2, 0),
        (3, 0),
    ]
    server.requests.clear()
    assert fetch(path, tmp_path / "out", QUICK).merged == 2
    assert server.total() == 0


def test_requests_at_once_are_bounded(tmp_path: Path, server: BadServer) -> None:
    urls = [server.url(f"slow/{i}.jpg", host=1 + i % 2) for i in range(12)]
    report = fetch(table(tmp_path, urls), tmp_path / "out", FetchOptions(per_host=3))
    assert report.fetched == 12
    assert set(server.most_at_once.values()) == {3}
    assert report.seconds > 0.6  # six of each host, three at once, 0.3 s each


def test_a_delay_between_requests(tmp_path: Path, server: BadServer) -> None:
    urls = [server.url(f"ok/{i}.jpg") for i in range(4)]
    report = fetch(table(tmp_path, urls), tmp_path / "out", FetchOptions(delay=0.2, robots=False))
    assert report.fetched == 4
    assert report.seconds > 0.6


def test_robots_txt_is_asked_once_and_obeyed(tmp_path: Path) -> None:
    with BadServer(robots="User-agent: *\nDisallow: /half\n") as server, loopback_is_public():
        urls = [server.url(f"{kind}/{i}.jpg", host) for kind in ("ok", "half") for i in range(5) for host in (1, 2)]
        report = fetch(table(tmp_path, urls), tmp_path / "out", QUICK)
        assert (report.fetched, report.failed) == (10, {"refused by robots.txt": 10})
        assert [n for (_, path), n in server.requests.items() if path == "/robots.txt"] == [1, 1]
        assert not any(path.startswith("/half") for path in server.paths())
        rude = fetch(table(tmp_path, urls[:10]), tmp_path / "rude", FetchOptions(robots=False))
        assert rude.fetched == 10


def test_of_a_long_robots_txt_the_beginning_counts(tmp_path: Path) -> None:
    rules = "User-agent: *\nDisallow: /half\n" + "# on and on\n" * 60_000
    with BadServer(robots=rules) as server, loopback_is_public():
        path = table(tmp_path, [server.url("half/1.jpg"), server.url("ok/1.jpg")])
        report = fetch(path, tmp_path / "out", QUICK)
    assert (report.fetched, report.failed) == (1, {"refused by robots.txt": 1})


@pytest.mark.parametrize(("status", "fetched"), [("503 Later", 0), ("403 No", 9)])
def test_rules_that_cannot_be_read_now_forbid_and_rules_that_are_not_there_allow(
    tmp_path: Path, status: str, fetched: int
) -> None:
    """RFC 9309, sections 2.3.1.3 and 2.3.1.4."""
    with BadServer(robots="", robots_status=status) as server, loopback_is_public():
        report = fetch(table(tmp_path, [server.url(f"ok/{i}.jpg") for i in range(9)]), tmp_path / "out", QUICK)
        assert report.fetched == sum(server.paths().values()) == fetched
        assert report.failed == ({"robots.txt unavailable": 9} if not fetched else {})
        assert server.total() - fetched == (1 if fetched else QUICK.attempts)


def test_a_dead_host_costs_a_few_requests_and_not_one_for_each_url(tmp_path: Path, server: BadServer) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens
        urls = [f"http://127.0.0.1:{closed.getsockname()[1]}/{i}.jpg" for i in range(100)] + [server.url("ok/1.jpg")]
        report = fetch(table(tmp_path, urls), tmp_path / "out", QUICK)
    assert (report.fetched, report.failed) == (1, {"connection refused": 100})
    assert report.requests <= 2 + QUICK.attempts


def test_a_host_that_stops_answering_is_given_up(tmp_path: Path, server: BadServer) -> None:
    urls = [server.url(f"reset/{i}.jpg") for i in range(60)]
    report = fetch(table(tmp_path, urls), tmp_path / "out", FetchOptions(robots=False, attempts=1, per_host=4))
    assert report.failed.keys() == {"connection reset", "host given up"}
    assert report.failed["connection reset"] <= 20 + 4
    assert_accounted(report)


def test_a_host_that_asks_for_a_long_rest_gets_it(tmp_path: Path, server: BadServer) -> None:
    urls = [server.url(f"come-back-tomorrow/{i}.jpg") for i in range(30)]
    report = fetch(table(tmp_path, urls), tmp_path / "out", FetchOptions(per_host=1))
    assert report.failed == {"too many requests": 30}
    assert sum(server.paths().values()) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]"])
def test_private_addresses_are_refused_however_they_are_written(tmp_path: Path, host: str) -> None:
    with BadServer() as server:
        path = table(tmp_path, [f"http://{host}:{server.port}/ok/1.jpg"])
        report = fetch(path, tmp_path / "out", FetchOptions(robots=False))
        assert server.total() == 0
        assert report.failed.keys() <= {"private address", "url not valid", "host not found"}
        assert sum(report.failed.values()) == 1
        if host in ("127.0.0.1", "localhost", "[::1]"):
            assert report.failed == {"private address": 1}
        if host == "127.0.0.1":
            options = FetchOptions(allow_private=True, retry=("private address",))
            assert fetch(path, tmp_path / "out", options).fetched == 1


def test_a_name_that_changes_its_address_after_the_check(
    tmp_path: Path, server: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first answer is public, every later one private. Only one look-up is ever made."""
    look_ups = []
    real = socket.getaddrinfo

    def lying(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host != "rebind.example":
            return real(host, port, *rest, **more)
        look_ups.append(host)
        address = "127.0.0.1" if len(look_ups) == 1 else "10.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", lying)
    path = table(tmp_path, [f"http://rebind.example:{server.port}/ok/{i}.jpg" for i in range(3)])
    assert fetch(path, tmp_path / "out", QUICK).fetched == 3
    assert len(look_ups) == 1
    report = fetch(path, tmp_path / "private", QUICK)  # a new run: the name is private now
    assert report.failed == {"private address": 3}


def test_only_some_licenses(tmp_path: Path, server: BadServer) -> None:
    path = tmp_path / "t.jsonl"
    rows = [
        {"url": server.url(f"ok/{i}.jpg"), "license": name} for i, name in enumerate(("CC-BY-4.0", "all rights", None))
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    report = fetch(path, tmp_path / "out", FetchOptions(licenses=("cc-*",)))
    assert (report.fetched, report.failed) == (1, {"license not asked for": 2})
    assert list(server.paths()) == ["/ok/0.jpg"]
    with pytest.raises(InputError, match="--license has changed"):
        fetch(path, tmp_path / "out", FetchOptions())


def test_other_sources_of_rows(tmp_path: Path, server: BadServer) -> None:
    """A LAION table, Conceptual Captions, and a dataset whose rows have URLs."""
    urls = [server.url(f"ok/{i}.jpg") for i in range(2)]
    pq.write_table(pa.table({"URL": urls, "TEXT": ["a", "b"], "similarity": [0.5, 0.25]}), tmp_path / "laion.parquet")
    (tmp_path / "cc.tsv").write_text("".join(f"a caption\t{url}\n" for url in urls))
    with DatasetWriter(tmp_path / "ours") as writer:
        for url in urls:
            writer.write(Sample(url[-5:], url=url, captions=["x"], tags=["t"], scores={"s": 1.0}))
    for i, address in enumerate(("laion.parquet", "cc.tsv", "ours")):
        report = fetch(tmp_path / address, tmp_path / f"out{i}", QUICK)
        assert report.fetched == 2, address
    assert [sample.scores for sample in open_dataset(tmp_path / "out0")] == [{"similarity": 0.5}, {"similarity": 0.25}]
    assert [(s.id, s.tags) for s in open_dataset(tmp_path / "out2")] == [("0.jpg", ["t"]), ("1.jpg", ["t"])]


def test_rows_that_cannot_be_asked_for_are_counted(tmp_path: Path, server: BadServer) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(f'{{"url": "{server.url("ok/1.jpg")}"}}\n{{"url": "ftp://a/1"}}\n{{"url": ""}}\nno json\n')
    for _ in range(2):
        report = fetch(path, tmp_path / "out", QUICK)
        assert report.failed == {"url not valid": 1, "url missing": 1, "row broken": 1}
        assert_accounted(report)
    assert len(log_of(tmp_path / "out")) == 4  # noted once


def test_a_folder_of_something_else_and_a_changed_table(tmp_path: Path, server: BadServer) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    path = table(tmp_path, [server.url("ok/1.jpg")])
    with pytest.raises(InputError, match="not made by a fetch"):
        fetch(path, tmp_path / "mine", QUICK)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    fetch(path, tmp_path / "out", QUICK)
    with pytest.raises(InputError, match="it had 1 rows, now 2; give a new folder"):
        fetch(table(tmp_path, [server.url("ok/1.jpg"), server.url("ok/2.jpg")]), tmp_path / "out", QUICK)


def test_time_runs_out_and_the_next_run_goes_on(tmp_path: Path, server: BadServer) -> None:
    path = table(tmp_path, [server.url(f"slow/{i}.jpg") for i in range(10)])
    first = fetch(path, tmp_path / "out", FetchOptions(per_host=1, minutes=0.8 / 60))
    assert 1 <= first.fetched <= 4 and first.fetched + first.not_tried == 10
    second = fetch(path, tmp_path / "out", FetchOptions(per_host=10))
    assert (second.fetched, second.not_tried) == (10, 0)
    assert set(server.paths().values()) == {1}


def test_nothing_is_named_by_a_server(tmp_path: Path, server: BadServer) -> None:
    fetch(table(tmp_path, [server.url("traversal/..%2f..%2fevil.jpg")]), tmp_path / "a" / "out", QUICK)
    names = {path.name for path in (tmp_path / "a").rglob("*") if path.is_file()}
    own = {"data-00000.parquet", "dataset.json", "quarantine.jsonl", "log.jsonl", "table.json", "lock", "spool-00001"}
    assert names == {*own, "report.json", "report.html"}
    assert {path.name for path in tmp_path.iterdir()} == {"a", "urls.csv"}


def test_the_command(tmp_path: Path, server: BadServer, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path, [server.url(f"{kind}/1.jpg") for kind in ("ok", "404", "500")])
    words = ["data", "fetch", str(path), "--to", str(tmp_path / "out"), "--backoff", "0.01", "--per-host", "2"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    for part in ("fetched", "not found", "with --retry", "server error", "by the next run", "6 requests"):
        assert part in shown
    assert main([*words, "--retry", "not found", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["failed"]["not found"] == {"rows": 1, "asked_again": "with --retry"}
    written = json.loads((tmp_path / "out" / "fetch" / "report.json").read_text())
    assert {key: written[key] for key in ("rows", "fetched", "failed")} == {
        k: told[k] for k in ("rows", "fetched", "failed")
    }
    assert "server error" in (tmp_path / "out" / "fetch" / "report.html").read_text()
    assert main([*words, "--retry", "nonsense"]) == 2
    assert "no reason 'nonsense'" in capsys.readouterr().err
    assert main([*words, "--connections", "0"]) == 2
    assert "connections: expected a finite number above 0" in capsys.readouterr().err
