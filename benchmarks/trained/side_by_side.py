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
from pathlib import Path
from typing import Any

from contest import add_budget, beside_blanked, table, train

import diptych
from diptych import models
from diptych.types import Estimate

FAMILIES = ("virtex", "visualgpt", "simvlm", "frozen", "flamingo")
GATES = ["--training.groups", '[["_gate$", 0.02]]']  # of Flamingo: ten times the rate of the rest
QUESTIONS = ["--loader.texts", "questions", "--loader.turns", "6"]
QUESTIONS += ["--training.warmup", "0.02"]  # short, which brings the fall of the loss forward
TEST = "scenes:?n={}&size=64&objects=1-3&detail=5&split=test"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="scenes60k")
    parser.add_argument("--out", type=Path, default=Path("side"))
    add_budget(parser, lr="2e-3", batch="64")
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    options = parser.parse_args()
    rows = []
    for family in options.families:
        found: dict[str, str] = {}
        tasks = ("caption", "answer") if hasattr(models.family(family), "answer") else ("caption",)
        for task in tasks:
            folder = options.out / f"{family}-{task}"
            known, what = folder / "side_by_side.json", "captions: " if task == "caption" else "questions: "
            if not known.exists():
                further = GATES if (family, task) == ("flamingo", "caption") else []
                if task == "answer":
                    further = [*QUESTIONS, "--start", str(options.out / f"{family}-caption")]
                cost = train(family, options.data, folder, options, further, what)
                dataset = diptych.open_dataset(TEST.format(options.test))
                right = beside_blanked(diptych.load(folder), lambda one: judged(one, dataset, task))  # noqa: B023
                known.write_text(json.dumps(cost | right, indent=2))
            found |= json.loads(known.read_text())
        rows.append((family, found))
    table(rows)


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


if __name__ == "__main__":
    main()
