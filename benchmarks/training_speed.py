"""How fast families train with a process for each core, beside one process with a thread for each.

    python benchmarks/training_speed.py

Each family is trained by `diptych train` for some steps both ways, on the same scenes; prints samples a second (the
median of the log lines after the first quarter) and how many times as fast as with threads.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from diptych.machine import cores

DATA = "scenes:?n=6000&size=64&objects=1-3&detail=5"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=["visualgpt", "virtex", "frozen", "clip"])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    print(f"{'':10} {'threads':>10} {'processes':>17}  (samples a second, {cores()} cores)")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "scenes"
        _diptych(["data", "import", DATA, "--to", str(data)], cores())
        for family in options.families:
            settings = {"training.steps": options.steps, "loader.batch_size": options.batch, "loader.held_out": 0}
            words = ["train", family, "--data", str(data)]
            words += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
            speeds = []
            for processes in (1, cores()):
                out = Path(folder) / f"{family}-{processes}"
                _diptych([*words, "--processes", str(processes), "--out", str(out)], cores() // processes)
                lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
                seen = [line["samples_per_second"] for line in lines if line["kind"] == "train"]
                speeds.append(statistics.median(seen[len(seen) // 4 :]))
            threads, apart = speeds
            print(f"{family:10} {threads:10.0f} {apart:9.0f} ({apart / threads:.2f}x)", flush=True)


def _diptych(words: list[str], threads: int) -> None:
    """One command with so many threads a process; ends this program where the command fails."""
    run = subprocess.run(
        [sys.executable, "-m", "diptych", *words],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise SystemExit(f"diptych {' '.join(words)}: {run.stderr[-2000:]}")


if __name__ == "__main__":
    main()
