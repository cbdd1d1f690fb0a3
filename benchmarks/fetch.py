"""Ten thousand URLs of which a part misbehaves, and what a second run asks for: `python benchmarks/fetch.py`.

A server in a process of its own plays 200 hosts on loopback addresses. Most URLs are sound JPEGs; the others are slow,
dead, redirect in circles, lie about their type, are giant or endless, close half-way, never answer, and so on. The run
must end within the time that its bounds allow, account for every row, and be followed by a run that asks only for what
failed and may have passed. For comparison the sound URLs alone are fetched by 64 threads of urllib, which checks
nothing, retries nothing and keeps nothing.
"""

from __future__ import annotations

import argparse
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

TESTS = Path(__file__).parents[1] / "tests" / "data"
sys.path.insert(0, str(TESTS))

from bad_server import BEHAVIOURS, loopback_is_public  # noqa: E402

from diptych.data import open_dataset  # noqa: E402
from diptych.data.fetch import FetchOptions, fetch  # noqa: E402
from diptych.data.fetch.reasons import PASSING  # noqa: E402

HOSTS = 200
SOUND = ("ok", "moved", "gzipped", "slow", "once", "busy", "noai-other", "traversal")
BAD_SHARE = 0.2
SLOTS_HELD = ("never", "drip")  # these cost a connection until the deadline
OPTIONS = FetchOptions(connections=64, connect=2, silence=2, deadline=4, backoff=0.2, longest_wait=5)


def urls(n: int, port: int) -> tuple[list[str], list[str]]:
    """n URLs over all hosts, shuffled, and the behaviour of each. One host in a hundred of the bad ones is dead."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        dead = probe.getsockname()[1]  # nobody will listen there
    draw = random.Random(0)
    bad = [*(kind for kind in BEHAVIOURS if kind not in SOUND), "dead"]
    kinds = [
        draw.choice(bad) if draw.random() < BAD_SHARE else draw.choices(SOUND, (93, *[1] * 7))[0] for _ in range(n)
    ]
    # Kinds that hurt their whole host get hosts of their own, as in the wild.
    hosts = {kind: 201 + i for i, kind in enumerate(("come-back-tomorrow", "never", "drip", "dead"))}
    made = []
    for i, kind in enumerate(kinds):
        host = hosts.get(kind, draw.randrange(1, HOSTS + 1))
        name = f"127.0.{i % 8 if kind in SLOTS_HELD else 0}.{host}:{dead if kind == 'dead' else port}"
        made.append(f"http://{name}/{kind}/{i}.jpg")
    return made, kinds


def plain(sound: list[str]) -> float:
    """Seconds that 64 threads of urllib take."""

    def get(url: str) -> int:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return len(answer.read())
        except OSError:
            return 0

    start = time.perf_counter()
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(get, sound))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    n = parser.parse_args().n
    with (
        tempfile.TemporaryDirectory() as folder,
        (Path(folder) / "requests").open("w+") as log,
        subprocess.Popen([sys.executable, TESTS / "bad_server.py"], stdin=-1, stdout=log) as server,
        loopback_is_public(),
    ):
        try:
            while not (port := _lines(log)[:1]):
                time.sleep(0.1)
            measure(n, int(port[0]), log, Path(folder))
        finally:
            server.kill()


def measure(n: int, port: int, log: IO[str], folder: Path) -> None:
    made, kinds = urls(n, port)
    table = folder / "urls.csv"
    table.write_text("url,caption\n" + "".join(f"{url},a {kind} picture\n" for url, kind in zip(made, kinds)))
    report = fetch(table, folder / "out", OPTIONS)
    asked = len(_lines(log))
    held = sum(kind in SLOTS_HELD for kind in kinds)
    limit = held * OPTIONS.deadline / OPTIONS.connections + 120
    print(f"{n:,} URLs, {sum(kind not in SOUND for kind in kinds):,} of them bad, {report.requests:,} requests")
    print(f"first run: {report.seconds:.1f} s, {n / report.seconds:.0f} URLs/s; limit {limit:.0f} s: ", end="")
    print("kept" if report.seconds < limit else "BROKEN")
    for reason, rows in [("fetched", report.fetched), ("merged", report.merged), *report.failed.items()]:
        print(f"  {rows:6,}  {reason}")
    whole = report.fetched + report.merged + sum(report.failed.values()) + report.not_tried
    print(f"  {whole:6,}  in all: {'every row accounted for' if whole == n else 'ROWS LOST'}")
    dataset = open_dataset(folder / "out")
    missing = {u for u, kind in zip(made, kinds) if kind in SOUND} - set(dataset.column("url"))
    print(f"the dataset opens with {len(dataset):,} samples; sound URLs that are not in it: {len(missing)}")

    again = fetch(table, folder / "out", OPTIONS)
    time.sleep(0.2)
    second = Counter(path.split("/")[1] for path in _lines(log)[asked:] if path != "/robots.txt")
    passing = sum(rows for reason, rows in report.failed.items() if reason in PASSING)
    print(f"second run: {again.seconds:.1f} s; {passing:,} rows had failed for a passing reason; it asked for:")
    print("  " + ", ".join(f"{kind} {times}" for kind, times in second.most_common()))
    print(f"  of sound URLs: {sum(second[kind] for kind in SOUND)}")
    sound = [url for url, kind in zip(made, kinds) if kind == "ok"]
    seconds = plain(sound)
    start = time.perf_counter()
    alone = folder / "sound.csv"
    alone.write_text("url\n" + "\n".join(sound))
    fetch(alone, folder / "sound", OPTIONS)
    ours = time.perf_counter() - start
    print(
        f"{len(sound):,} sound URLs: diptych {ours:.1f} s, urllib on 64 threads {seconds:.1f} s, {seconds / ours:.2f} x"
    )


def _lines(log: IO[str]) -> list[str]:
    log.seek(0)
    return log.read().splitlines()


if __name__ == "__main__":
    main()
