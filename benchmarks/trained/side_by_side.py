"""The families that write, side by side: each trained alone for the same time, then judged on the same unseen scenes.

    diptych data import "scenes:?n=60000&size=64&objects=1-3&detail=5" --to scenes60k
    python benchmarks/trained/side_by_side.py --data scenes60k --out side

Each family learns captions by `diptych train`, from scratch; those that answer then learn questions for as long again,
starting from that (`--start`). The settings are below; the memory is the peak of the largest process (the judging of
the held-out part included). What is in OUT is not done again. Then the first model writes captions of the same scenes,
the second answers their questions, and both do so again with all pictures blanked. Guessed is what captions dealt to
other pictures reach, and the commonest answer of each type of question. Prints a table for docs/families.md; the time
is that of the training alone.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import diptych
from diptych import models
from diptych.machine import cores
from diptych.types import Estimate

FAMILIES = ("virtex", "visualgpt", "simvlm", "frozen", "flamingo")
GATES = ["--training.groups", '[["_gate$", 0.02]]']  # of Flamingo: ten times the rate of the rest
QUESTIONS = ["--loader.texts", "questions", "--loader.turns", "6"]
SHORT = ["--training.warmup", "0.02"]  # brings the fall of the loss forward, but not where gates open first
TEST = "scenes:?n={}&size=64&objects=1-3&detail=5&split=test"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="scenes60k")
    parser.add_argument("--out", type=Path, default=Path("side"))
    parser.add_argument("--minutes", type=float, default=14)
    parser.add_argument("--lr", default="2e-3")
    parser.add_argument("--batch", default="64")
    parser.add_argument("--processes", type=int, default=cores(), help="one a core")
    parser.add_argument("--test", type=int, default=300, help="unseen scenes")
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    options = parser.parse_args()
    rows = []
    for family in options.families:
        found: dict[str, str] = {}
        tasks = ("caption", "answer") if hasattr(models.family(family), "answer") else ("caption",)
        for task in tasks:
            folder = options.out / f"{family}-{task}"
            known = folder / "side_by_side.json"
            if not known.exists():
                further = []
                if task == "answer":
                    further = [*QUESTIONS, "--start", str(options.out / f"{family}-caption")]
                    further += [] if family == "flamingo" else SHORT
                cost = train(family, folder, options, further)
                known.write_text(json.dumps(cost | judge(diptych.load(folder), task, options.test), indent=2))
            found |= json.loads(known.read_text())
        rows.append((family, found))
    names = list(dict.fromkeys(name for _, found in rows for name in found))
    print(f"| | {' | '.join(family for family, _ in rows)} |\n|---{'|---' * len(rows)}|")
    for name in names:
        print(f"| {name} | {' | '.join(str(found.get(name, '')) for _, found in rows)} |")


def train(family: str, folder: Path, options: argparse.Namespace, further: list[str]) -> dict[str, str]:
    """Train one family in processes of its own; what it cost."""
    settings = {
        "training.minutes": options.minutes,
        "training.lr": options.lr,
        "loader.batch_size": options.batch,
        "loader.split_by": "id",
        "loader.held_out": 0.005,
    }
    command = [sys.executable, "-m", "diptych", "train", family, "--data", options.data, "--out", str(folder)]
    command += ["--processes", str(options.processes), *further, *(GATES if family == "flamingo" else [])]
    command += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    print(" ".join(command[1:]), flush=True)
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{family}: training ended with {os.waitstatus_to_exitcode(status)}")
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    last = [line for line in lines if line["kind"] == "train"][-1]
    what = "questions: " if further else "captions: "
    found = {
        "pictures seen": f"{last['samples']:,.0f} in {last['elapsed']:.0f} s",
        "memory": f"{peak(used):.1f} GiB",
    }
    if not further:
        found["parameters"] = f"{sum(one.numel() for one in diptych.load(folder).parameters()) / 1e6:.1f} M"
    return {what + name: value for name, value in found.items()}


def peak(used: resource.struct_rusage) -> float:
    """Peak of resident memory in GiB; macOS counts bytes, Linux kibibytes."""
    return used.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def judge(model: Any, task: str, scenes: int) -> dict[str, str]:
    """What a model reaches on unseen scenes, and with blanked pictures."""
    dataset = diptych.open_dataset(TEST.format(scenes))
    seen = judged(model, dataset, task)
    decode = model.processor.decode_image
    model.processor.decode_image = lambda source: np.full_like(np.asarray(decode(source)), 128)
    blind = judged(model, dataset, task)
    model.processor.decode_image = decode
    return {
        name: f"{shown(one, name)}; blanked {number(blind[name].value, name)}, guessed {number(one.chance, name)}"
        for name, one in seen.items()
    }


def judged(model: Any, dataset: Any, task: str) -> dict[str, Estimate]:
    """The numbers of the table."""
    found = diptych.evaluate(model, dataset, task).estimates
    if task == "caption":
        return {
            "things described rightly": found["caption/objects_right"],
            "claims that are true": found["caption/claims_right"],
            "CIDEr-D": found["caption/cider_d"],
        }
    kinds = ("exist", "query color", "query material", "query shape", "query size")
    return {f"answers, {kind}": found[f"answer/accuracy[{kind}]"] for kind in kinds}


def number(value: float | None, name: str) -> str:
    """As a share, or CIDEr-D as it is."""
    if value is None:
        return "?"
    return f"{value:.2f}" if name == "CIDEr-D" else f"{100 * value:.1f} %"


def shown(one: Estimate, name: str) -> str:
    """A value with its interval."""
    low, high = (number(end, name).removesuffix(" %") for end in (one.low, one.high))
    return f"{number(one.value, name)} ({low} to {high})"


if __name__ == "__main__":
    main()
