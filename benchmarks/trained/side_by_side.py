"""The families that write, side by side: each trained alone for the same time, then judged on the same unseen scenes.

    diptych data import "scenes:?n=60000&size=64&objects=1-3&detail=5" --to scenes60k
    python benchmarks/trained/side_by_side.py --data scenes60k --out side

Each family is trained by `diptych train`, with the settings in `TEXTS` and below, by processes of its own; the memory
is the peak of the largest of them (the judging of its held-out part included). What is in OUT is not done again.
Then each writes captions of the same scenes and answers their questions, and does both again with all pictures blanked.
Guessed is what captions dealt to other pictures reach, and the commonest answer of each type of question. Prints a
table for docs/families.md; the time is that of the training alone.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import diptych
from diptych.machine import cores
from diptych.types import Estimate

TEXTS = {"virtex": "captions", "visualgpt": "captions"} | dict.fromkeys(("simvlm", "frozen", "flamingo"), "dialogues")
TEST = "scenes:?n={}&size=64&objects=1-3&detail=5&split=test"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="scenes60k")
    parser.add_argument("--out", type=Path, default=Path("side"))
    parser.add_argument("--minutes", type=float, default=13)
    parser.add_argument("--lr", default="2e-3")
    parser.add_argument("--batch", default="64")
    parser.add_argument("--processes", type=int, default=cores(), help="one a core")
    parser.add_argument("--test", type=int, default=300, help="unseen scenes")
    parser.add_argument("families", nargs="*", default=list(TEXTS))
    options = parser.parse_args()
    rows = []
    for family in options.families:
        folder = options.out / family
        known = folder / "side_by_side.json"
        if not known.exists():
            cost = train(family, folder, options)
            found = cost | judge(diptych.load(folder), TEXTS[family], options.test)
            known.write_text(json.dumps(found, indent=2))
        rows.append((family, json.loads(known.read_text())))
    names = list(dict.fromkeys(name for _, found in rows for name in found))
    print(f"| | {' | '.join(family for family, _ in rows)} |\n|---{'|---' * len(rows)}|")
    for name in names:
        print(f"| {name} | {' | '.join(str(found.get(name, '')) for _, found in rows)} |")


def train(family: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train one family in a process of its own; what it cost."""
    settings = {
        "training.minutes": options.minutes,
        "training.lr": options.lr,
        "loader.batch_size": options.batch,
        "loader.split_by": "id",
        "loader.held_out": 0.005,
        "loader.texts": TEXTS[family],
        "loader.turns": 3,
    }
    command = [sys.executable, "-m", "diptych", "train", family, "--data", options.data, "--out", str(folder)]
    command += ["--processes", str(options.processes)]
    command += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    print(" ".join(command[1:]), flush=True)
    start = time.time()
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{family}: training ended with {os.waitstatus_to_exitcode(status)}")
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    weights = sum(one.numel() for one in diptych.load(folder).parameters())
    return {
        "read and written": TEXTS[family],
        "pictures seen": f"{last['samples']:,.0f}",
        "pictures a second": f"{last['samples'] / last['elapsed']:.0f}",
        "parameters": f"{weights / 1e6:.1f} M",
        "seconds": f"{last['elapsed']:.0f} ({time.time() - start:.0f} with start and judging)",
        "memory": f"{peak(used):.1f} GiB",
    }


def peak(used: resource.struct_rusage) -> float:
    """Peak of resident memory in GiB; macOS counts bytes, Linux kibibytes."""
    return used.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def judge(model: Any, texts: str, scenes: int) -> dict[str, str]:
    """What a model reaches on unseen scenes, and with blanked pictures."""
    dataset = diptych.open_dataset(TEST.format(scenes))
    seen = judged(model, dataset, texts)
    decode = model.processor.decode_image
    model.processor.decode_image = lambda source: np.full_like(np.asarray(decode(source)), 128)
    blind = judged(model, dataset, texts)
    model.processor.decode_image = decode
    return {
        name: f"{shown(one, name)}; blanked {number(blind[name].value, name)}, guessed {number(one.chance, name)}"
        for name, one in seen.items()
    }


def judged(model: Any, dataset: Any, texts: str) -> dict[str, Estimate]:
    """The numbers of the table."""
    caption = diptych.evaluate(model, dataset, "caption").estimates
    found = {
        "things described rightly": caption["caption/objects_right"],
        "claims that are true": caption["caption/claims_right"],
        "CIDEr-D": caption["caption/cider_d"],
    }
    if texts == "dialogues":
        answer = diptych.evaluate(model, dataset, "answer").estimates
        for kind in ("exist", "query color", "query material", "query shape", "query size"):
            found[f"answers, {kind}"] = answer[f"answer/accuracy[{kind}]"]
    return found


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
