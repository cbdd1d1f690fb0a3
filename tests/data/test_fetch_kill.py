"""A fetch that is killed, or runs out of disk, loses nothing and asks for nothing twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bad_server import BadServer, loopback_is_public

from diptych.data import Dataset, open_dataset
from diptych.data.fetch import FetchOptions, fetch
from diptych.types import InputError

pytest.importorskip("aiohttp")

HERE, SOURCE = Path(__file__).parent, Path(__file__).parents[2] / "src"
OPTIONS = {"backoff": 0.02, "per_host": 4, "shard_rows": 25, "connections": 16}

SCRIPT = f"""
import sys, resource
sys.path[:0] = [{str(SOURCE)!r}, {str(HERE)!r}]
from bad_server import loopback_is_public
from diptych.data.fetch import FetchOptions, fetch
from diptych.types import InputError
if sys.argv[3] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
with loopback_is_public():
    try:
        fetch(sys.argv[1], sys.argv[2], FetchOptions(**{OPTIONS!r}))
    except InputError as error:
        sys.exit(str(error))
"""


def start(table: Path, to: Path, most_bytes: int = 0) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SCRIPT, str(table), str(to), str(most_bytes)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def contents(dataset: Dataset) -> dict[str, tuple[object, ...]]:
    return {s.id: (s.url, s.captions, s.images[0].data) for s in dataset}


def make_table(folder: Path, server: BadServer) -> tuple[Path, int]:
    """Sound, dead and repeated URLs in a mixed order."""
    kinds = ["ok"] * 160 + ["404"] * 20 + ["once"] * 20
    urls = [server.url(f"{kind}/{i}.jpg", host=i % 7 + 1) for i, kind in enumerate(kinds)]
    urls += urls[:10] + urls[185:190]
    random.Random(0).shuffle(urls)
    path = folder / "urls.csv"
    path.write_text("url,caption\n" + "".join(f"{url},caption {i}\n" for i, url in enumerate(urls)))
    return path, len(urls)


def finished(to: Path) -> set[str]:
    """The paths that the log says are settled, on whole lines."""
    log = to / "fetch" / "log.jsonl"
    raw = log.read_bytes() if log.exists() else b""
    lines = [json.loads(line) for line in raw[: raw.rfind(b"\n") + 1].splitlines()]
    return {"/" + line["url"].split("/", 3)[3] for line in lines if "url" in line}


def test_killed_again_and_again(tmp_path: Path) -> None:
    draw = random.Random(1)
    with BadServer() as server, loopback_is_public():
        table, rows = make_table(tmp_path, server)
        kills = 0
        for _ in range(3):
            process = start(table, tmp_path / "out")
            target = len(finished(tmp_path / "out")) + draw.randrange(5, 60)
            while process.poll() is None and len(finished(tmp_path / "out")) < target:
                time.sleep(0.02)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
            process.wait()
            settled, before = finished(tmp_path / "out"), server.paths()
            Dataset.open(tmp_path / "out")  # opens at any time
            if kills >= 2 or process.returncode == 0:
                break
        assert kills >= 1, "the runs were over before they could be killed"
        report = fetch(table, tmp_path / "out", FetchOptions(**OPTIONS))
        assert all(server.paths()[path] == before[path] for path in settled), "asked again for what was finished"
        assert server.paths().total() - before.total() >= 1
        whole = fetch(table, tmp_path / "whole", FetchOptions(**OPTIONS))
        assert contents(open_dataset(tmp_path / "out")) == contents(open_dataset(tmp_path / "whole"))
        for one in (report, whole):
            assert (one.rows, one.fetched, one.merged, one.failed) == (rows, 180, 15, {"not found": 20})
        ids = open_dataset(tmp_path / "out").ids
        assert len(ids) == len(set(ids)) == 180
        server.requests.clear()
        assert fetch(table, tmp_path / "out", FetchOptions(**OPTIONS)).requests == server.total() == 0


def test_a_full_disk_is_one_sentence_and_costs_nothing(tmp_path: Path) -> None:
    """A bound on the size of a file stands in for the disk: the same error of the system, in the middle of a write."""
    with BadServer() as server, loopback_is_public():
        table, _ = make_table(tmp_path, server)
        process = start(table, tmp_path / "out", most_bytes=9_000)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "the disk is full" in said and "the same command goes on from there" in said and "Traceback" not in said
        settled, before = finished(tmp_path / "out"), server.paths()
        assert settled
        report = fetch(table, tmp_path / "out", FetchOptions(**OPTIONS))
        assert (report.fetched, report.merged, report.failed) == (180, 15, {"not found": 20})
        assert all(server.paths()[path] == before[path] for path in settled)


def test_two_at_once_on_one_folder(tmp_path: Path) -> None:
    with BadServer() as server, loopback_is_public():
        path = tmp_path / "urls.csv"
        path.write_text(f"url\n{server.url('never/1.jpg')}\n")
        process = start(path, tmp_path / "out")
        try:
            while server.total() < 2 and process.poll() is None:
                time.sleep(0.01)
            with pytest.raises(InputError, match="another fetch is at work"):
                fetch(path, tmp_path / "out")
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("stage", ["before the rename", "after the rename"])
def test_killed_while_a_shard_is_sealed(tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two moments between which a shard changes its place."""
    real = os.rename

    class Killed(BaseException):
        pass

    def rename(self: Path, to: Path) -> Path:
        if Path(to).name == "data-00000.parquet" and Path(to).parent.name == "out":
            if stage == "after the rename":
                real(self, to)
            raise Killed
        real(self, to)
        return Path(to)

    with BadServer() as server, loopback_is_public():
        table, _ = make_table(tmp_path, server)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", rename)
            with pytest.raises(Killed):
                fetch(table, tmp_path / "out", FetchOptions(**OPTIONS))
        settled, before = finished(tmp_path / "out"), server.paths()
        report = fetch(table, tmp_path / "out", FetchOptions(**OPTIONS))
        assert (report.fetched, report.merged, report.failed) == (180, 15, {"not found": 20})
        assert all(server.paths()[path] == before[path] for path in settled)
        assert len(set(open_dataset(tmp_path / "out").ids)) == 180
