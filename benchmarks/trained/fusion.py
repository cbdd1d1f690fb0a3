"""The families that read picture and text together, side by side: the same time each, judged on the same unseen scenes.

    diptych data import "scenes:?n=60000&size=64&objects=1-3" --to pairs60k
    diptych data import "scenes:?n=30000&size=64&objects=1-3&task=pairs" --to statements30k
    python benchmarks/trained/fusion.py --out fused

Each family learns captions by `diptych train`, from scratch, with wrong texts beside them; then, starting from that,
questions for as long again, and statements about two pictures for as long again. What is in OUT is not done again. Then
the first model guesses hidden words and tells true captions from wrong ones, the second answers, the third judges
statements; each does so again with all pictures blanked. Guessed is what the commonest answer of each kind reaches.
Prints a table for docs/fusion.md.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import number, peak, shown

import diptych
from diptych.machine import cores
from diptych.types import Estimate

FAMILIES = ("visualbert", "vilbert", "vilt", "flava")
TASKS = {
    "captions": ["--loader.wrong", "2"],
    "questions": ["--loader.texts", "questions", "--loader.turns", "6", "--training.warmup", "0.02"],
    "statements": ["--loader.texts", "documents", "--training.warmup", "0.02"],
}
TEST = "scenes:?n={}&size=64&objects=1-3&split=test"
KINDS = {"exist", "count", "compare", "query"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="pairs60k")
    parser.add_argument("--statements", default="statements30k")
    parser.add_argument("--out", type=Path, default=Path("fused"))
    parser.add_argument("--minutes", type=float, default=14)
    parser.add_argument("--lr", default="1e-3")
    parser.add_argument("--batch", default="128")
    parser.add_argument("--processes", type=int, default=cores(), help="one a core")
    parser.add_argument("--test", type=int, default=300, help="unseen scenes")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    options = parser.parse_args()
    rows = []
    for family in options.families:
        found: dict[str, str] = {}
        for task in options.tasks:
            folder = options.out / f"{family}-{task}"
            known = folder / "fusion.json"
            if not known.exists():
                cost = train(family, task, folder, options)
                known.write_text(json.dumps(cost | judge(diptych.load(folder), task, options.test), indent=2))
            found |= json.loads(known.read_text())
        rows.append((family, found))
    names = list(dict.fromkeys(name for _, found in rows for name in found))
    print(f"| | {' | '.join(family for family, _ in rows)} |\n|---{'|---' * len(rows)}|")
    for name in names:
        print(f"| {name} | {' | '.join(str(found.get(name, '')) for _, found in rows)} |")


def train(family: str, task: str, folder: Path, options: argparse.Namespace) -> dict[str, str]:
    """Train one family on one task in processes of its own; what it cost."""
    settings = {
        "training.minutes": options.minutes,
        "training.lr": options.lr,
        "loader.batch_size": options.batch,
        "loader.split_by": "id",
        "loader.held_out": 0.005,
    }
    data = options.statements if task == "statements" else options.data
    command = [sys.executable, "-m", "diptych", "train", family, "--data", data, "--out", str(folder)]
    command += ["--processes", str(options.processes), *TASKS[task]]
    if task != "captions":
        command += ["--start", str(options.out / f"{family}-captions")]
    command += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    print(" ".join(command[1:]), flush=True)
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{family}: training ended with {os.waitstatus_to_exitcode(status)}")
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    last = [line for line in lines if line["kind"] == "train"][-1]
    found = {
        "pictures seen": f"{last['samples']:,.0f} in {last['elapsed']:.0f} s",
        "memory": f"{peak(used):.1f} GiB",
    }
    if task == "captions":
        found["parameters"] = f"{sum(one.numel() for one in diptych.load(folder).parameters()) / 1e6:.1f} M"
    return {f"{task}: {name}": value for name, value in found.items()}


def judge(model: Any, task: str, scenes: int) -> dict[str, str]:
    """What a model reaches on unseen scenes, and with blanked pictures."""
    address = TEST.format(scenes) + ("&task=pairs" if task == "statements" else "")
    dataset = diptych.open_dataset(address)
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
    if task == "captions":
        fill = diptych.evaluate(model, dataset, "fill").estimates
        match = diptych.evaluate(model, dataset, "match").estimates
        found = {f"hidden words, {kind}": fill[f"fill/right[{kind}]"] for kind in ("color", "shape")}
        return found | {"true caption over a wrong one": match["match/accuracy"]}
    if task == "statements":
        return {
            "statements about two pictures": diptych.evaluate(model, dataset, "answer").estimates["answer/accuracy"]
        }
    found = diptych.evaluate(model, dataset, "answer").estimates
    kinds = {name: name.removeprefix("answer/accuracy[").removesuffix("]") for name in found}
    return {f"answers, {kind}": found[name] for name, kind in kinds.items() if kind.split(" ")[0] in KINDS}


if __name__ == "__main__":
    main()
