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
from pathlib import Path
from typing import Any

from contest import add_budget, beside_blanked, table, train

import diptych
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
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    add_budget(parser, lr="1e-3", batch="128")
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    options = parser.parse_args()
    rows = []
    for family in options.families:
        found: dict[str, str] = {}
        for task in options.tasks:
            folder = options.out / f"{family}-{task}"
            known = folder / "fusion.json"
            if not known.exists():
                of_two = task == "statements"
                further = TASKS[task]
                if task != "captions":
                    further = [*further, "--start", str(options.out / f"{family}-captions")]
                data = options.statements if of_two else options.data
                cost = train(family, data, folder, options, further, f"{task}: ")
                dataset = diptych.open_dataset(TEST.format(options.test) + ("&task=pairs" if of_two else ""))
                right = beside_blanked(diptych.load(folder), lambda one: judged(one, dataset, task))  # noqa: B023
                known.write_text(json.dumps(cost | right, indent=2))
            found |= json.loads(known.read_text())
        rows.append((family, found))
    table(rows)


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
