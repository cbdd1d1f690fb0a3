"""What a gate is worth with few captions: `python benchmarks/trained/visualgpt_few_captions.py --out few --lm words`.

Chen et al. 2022 (tables 2 and 3) train on 1 % and less of the captions of COCO. Here: a share of the captions of a
generated world x the unit in the decoder (SRAU in both published forms, plain cross-attention, attention on attention)
x seeds, with the same language model, the same picture encoder and the same number of samples seen. Each cell is
trained, judged on scenes of another split, and written to OUT/cells; what is there is not done again, so that a killed
call goes on; several calls with other `--units` may share one OUT. Then OUT/results.json and OUT/results.png are
written from all cells that are there: the mean over seeds with its 95 % interval (Student's t; None of one seed), each
seed, and what the gates did at the end of training.

Without `--lm` the language model starts from scratch in every cell, which leaves out the point of the paper. With
`--vision` pictures are seen by a trained network that is kept fixed, as the paper's detector is; without it a network
is learnt from the few captions too.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import diptych
from diptych.recipes import recipe

UNITS = ("srau", "srau-code", "plain", "aoa")
NAMES = {"srau": "SRAU (paper)", "srau-code": "SRAU (code)", "plain": "cross-attention", "aoa": "AoA"}
GATES = {
    "gate/visual": "visual gate",
    "gate/visual_open": "visual gate open",
    "gate/language_open": "language gate open",
}


def cell(args: argparse.Namespace, unit: str, share: float, seed: int) -> dict[str, Any]:
    """Train and judge one model; gives its numbers."""
    world = diptych.open_dataset(f"scenes:?n={args.scenes}&size={args.size}&objects={args.objects}&detail=5&seed=0")
    count = max(2, round(share * args.scenes))
    some = world.select(np.sort(np.random.default_rng([seed, 0]).permutation(args.scenes)[:count]).tolist())
    model = {"cross": unit} | ({"lm_address": args.lm} if args.lm else {})
    if args.vision:
        model |= {"vision_address": args.vision, "image": None}
    settings: dict[str, Any] = {
        "model": model,
        "training": {"samples": args.samples, "lr": args.lr, "seed": seed, "checkpoint_every": 0}
        | ({"groups": [["^visual\\.", None]]} if args.vision else {}),
        "loader": {"batch_size": min(args.batch, count), "held_out": 0.0, "seed": seed},
    }
    chosen = recipe("visualgpt", preset=args.preset, settings=settings)
    folder = args.out / "runs" / name(unit, share, seed)
    trained = diptych.train(chosen, some, folder, show="plain")
    test = diptych.open_dataset(f"scenes:?n={args.test}&size={args.size}&objects={args.objects}&detail=5&split=test")
    found = diptych.evaluate(trained.model, test, "caption", seed=seed).estimates
    estimates = {key: estimate._asdict() for key, estimate in found.items()}
    last = trained.run.values if trained.run else {}
    gates = {key: value for key, value in last.items() if key.startswith("gate/")}
    return {"unit": unit, "share": share, "seed": seed, "pictures": count, "estimates": estimates, "gates": gates}


def name(unit: str, share: float, seed: int) -> str:
    """What a cell is called."""
    return f"{unit}-{share:g}-{seed}"


def summarise(cells: list[dict[str, Any]], values: list[float | None]) -> list[dict[str, Any]]:
    """For each unit and share the mean over seeds of a value of each cell, with its interval, and each seed's."""
    of: dict[tuple[str, float], dict[int, float]] = defaultdict(dict)
    for one, value in zip(cells, values):
        if value is not None:
            of[one["unit"], one["share"]][one["seed"]] = value
    rows = []
    for (unit, share), by_seed in sorted(of.items()):
        own = np.array(list(by_seed.values()))
        half = None
        if len(own) > 1:
            half = float(stats.t.ppf(0.975, len(own) - 1) * own.std(ddof=1) / math.sqrt(len(own)))
        rows.append({"unit": unit, "share": share, "mean": float(own.mean()), "half": half, "seeds": by_seed})
    return rows


def draw(
    rows: list[dict[str, Any]], gates: dict[str, list[dict[str, Any]]], metric: str, chance: float, to: Path
) -> None:
    """Left the metric, right what the gates did, both over the share of captions.

    Chance is what the models' captions reach when they are dealt to other pictures, on average over the cells.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    lines(left, rows, {unit: (f"C{place}", "-", NAMES[unit]) for place, unit in enumerate(UNITS)})
    left.axhline(chance, color="0.6", linewidth=1, linestyle="--", label="chance")
    left.set_ylabel(metric)
    for (gate, label), style in zip(GATES.items(), ("-", "--", ":")):
        lines(right, gates[gate], {u: (f"C{UNITS.index(u)}", style, f"{NAMES[u]}: {label}") for u in UNITS})
    right.set_ylabel("mean, or share of units, at the end")
    right.set_ylim(0, 1.02)
    for axes in (left, right):
        shares = sorted({row["share"] for row in rows})
        axes.set_xscale("log")
        axes.set_xticks(shares, [f"{100 * share:g} %" for share in shares])
        axes.minorticks_off()
        axes.set_xlabel("share of the captions")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(to)


def lines(axes: Any, rows: list[dict[str, Any]], looks: dict[str, tuple[str, str, str]]) -> None:
    """The means with their intervals, each seed as a dot; colour, style and label by unit."""
    units = [unit for unit in looks if any(row["unit"] == unit for row in rows)]
    for place, unit in enumerate(units):
        colour, style, label = looks[unit]
        own = [row for row in rows if row["unit"] == unit]
        x = np.array([row["share"] for row in own]) * 1.12 ** (place - (len(units) - 1) / 2)
        means, half = [row["mean"] for row in own], [row["half"] or 0 for row in own]
        look = {"color": colour, "linestyle": style, "label": label, "marker": "o", "markersize": 4, "linewidth": 1.2}
        axes.errorbar(x, means, half, capsize=3, **look)
        for at, row in zip(x, own):
            dots = list(row["seeds"].values())
            axes.plot([at] * len(dots), dots, ".", color=colour, alpha=0.5, markersize=4)


def same(args: argparse.Namespace) -> None:
    """Refuse to mix cells of different settings in one folder."""
    free = {"out", "units", "shares", "seeds", "metric"}
    here = {key: value for key, value in vars(args).items() if key not in free}
    file = args.out / "settings.json"
    if file.exists() and json.loads(file.read_text(encoding="utf-8")) != here:
        raise SystemExit(f"{file}: these cells were made with other settings; name another --out")
    file.write_text(json.dumps(here, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lm", help="address of the language model; from scratch without it")
    parser.add_argument("--vision", help="folder of a trained model whose picture network is used and kept fixed")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--units", nargs="+", default=list(UNITS), choices=UNITS)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.01, 0.1, 1.0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scenes", type=int, default=10_000, help="pictures that are 100 %%")
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--samples", type=int, default=12_000, help="seen in training, in every cell")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--objects", default="1")
    parser.add_argument("--metric", default="caption/objects_right")
    args = parser.parse_args()
    (args.out / "cells").mkdir(parents=True, exist_ok=True)
    same(args)
    for seed in range(args.seeds):  # seed by seed, so that a call that is stopped early has whole comparisons
        for share in args.shares:
            for unit in args.units:
                file = args.out / "cells" / f"{name(unit, share, seed)}.json"
                if not file.exists():
                    found = cell(args, unit, share, seed)
                    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    cells = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((args.out / "cells").glob("*.json"))]
    rows = summarise(cells, [one["estimates"][args.metric]["value"] for one in cells])
    gates = {gate: summarise(cells, [one["gates"].get(gate) for one in cells]) for gate in GATES}
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    result = {"settings": settings, "metric": args.metric, "rows": rows, "gates": gates, "cells": cells}
    (args.out / "results.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    chances = [one["estimates"][args.metric]["chance"] for one in cells]
    draw(rows, gates, args.metric, float(np.mean(chances)), args.out / "results.png")
    for title, some in {args.metric: rows, **{GATES[gate]: gates[gate] for gate in GATES}}.items():
        print(f"{title}:")
        for row in some:
            half = "" if row["half"] is None else f" +- {row['half']:.3f}"
            print(f"{100 * row['share']:6.1f} %  {NAMES[row['unit']]:16s} {row['mean']:.3f}{half}")


if __name__ == "__main__":
    main()
