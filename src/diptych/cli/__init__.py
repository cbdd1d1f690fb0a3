"""The command line: one file per verb, thin over the other modules. What is heavy is imported where a verb needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from cyclopts import App, CycloptsError, Parameter

import diptych
from diptych.cli import (
    ask,
    caption,
    chat,
    classify,
    data,
    data_bias,
    data_curate,
    data_export,
    data_fetch,
    data_label,
    data_leaks,
    data_show,
    doctor,
    embed,
    eval,
    health,
    index,
    listing,
    score,
    search,
    show_demo,
    terminal,
    train,
)
from diptych.types import InputError

FAILED, WRONG = 1, 2  # exit codes; 0 is success

HELP = "Build, judge and use vision-language models on your own images and text."
EXAMPLES = """
diptych demo
diptych search ~/Pictures "a red car on a street"
diptych train clip --data clipart --out runs/first"""
FOOT = """

`--debug` with any command shows the traceback of an error. Exit codes: 0 done, 1 failed, 2 wrong usage or input."""

# the verbs in the order of the help page, each with examples of its use
VERBS: dict[str, tuple[Callable[..., Any], str]] = {
    "demo": (
        show_demo.demo,
        """
diptych demo
diptych demo --out my-report --open""",
    ),
    "search": (
        search.search,
        """
diptych search ~/Pictures "a red car on a street"
diptych search ~/Pictures --image query.jpg -k 20 --html sheet.html --open
diptych search clipart "a sleeping cat" --explain
diptych search scans-index "a red car" --model runs/first/model --json""",
    ),
    "data import": (
        data.import_,
        """
diptych data import ~/scans --to scans
diptych data import captions.csv --to scans --root ~/pictures""",
    ),
    "data fetch": (
        data_fetch.fetch,
        """
diptych data fetch urls.csv --to pictures
diptych data fetch laion:metadata --to pictures --per-host 2 --delay 0.5 --user-agent "my-lab/1.0 (+mail@example.org)"
diptych data fetch urls.csv --to pictures --retry "not found" --retry forbidden
diptych data fetch conceptual-captions:cc.tsv --to pictures --license "cc-by*" --minutes 60""",
    ),
    "data show": (
        data_show.show,
        """
diptych data show clipart
diptych data show scans --html scans.html
diptych data show "scenes:?n=48" --png scenes.png --plain""",
    ),
    "data curate": (
        data_curate.curate,
        """
diptych data curate clipart --dry-run
diptych data curate scans --to scans-clean --plan plan.toml""",
    ),
    "data label": (
        data_label.label,
        """
diptych data label runs/teacher questions --to labelled --sure 0.95
diptych data label runs/simvlm scans --to captioned --what captions
diptych data label pocket scans --to classed --what classes --labels cat,dog,other""",
    ),
    "data export": (
        data_export.export,
        """
diptych data export scans --to wds:shards
diptych data export "scenes:?n=1000&seed=1" --to coco:scenes-coco""",
    ),
    "data bias": (
        data_bias.bias,
        """
diptych data bias clipart
diptych data bias questions --target answer --html bias.html""",
    ),
    "data leaks": (
        data_leaks.leaks,
        """
diptych data leaks train-set test-set
diptych data leaks train-set test-set --png leaks.png --model pocket""",
    ),
    "train": (
        train.train,
        """
diptych train clip --data clipart --out runs/first
diptych train lit --preset Lu --data scans --out runs/lit \\
    --training.minutes 10 --loader.batch_size 256
diptych train clip --data scans --out runs/b --config settings.toml --dry-run
diptych train simvlm --start runs/a --data scans --out runs/b --loader.texts both
diptych train clip --data scans --out runs/c --processes 2""",
    ),
    "eval": (
        eval.evaluate,
        """
diptych eval pocket --data scans --html report.html --json numbers.json
diptych eval runs/first/model --data clipart --held-out 0.1
diptych eval pocket --data pets --task classify
diptych eval pocket runs/first --data clipart scans --html report.html
diptych eval pocket --data "scenes:?n=300" --task match""",
    ),
    "score": (
        score.score,
        """
diptych score captions results.json --against captions_val2014.json
diptych score vqa vqa_results.json --against v2_mscoco_val2014_annotations.json
diptych score detections boxes.json --against instances_val2017.json --json""",
    ),
    "health": (
        health.health,
        """
diptych health pocket --html health.html
diptych health pocket --data aro:path/to/aro --test word-order
diptych health runs/first/model --data "scenes:?n=800&split=test" --n 800""",
    ),
    "index": (
        index.index,
        """
diptych index pocket ~/Pictures --to pictures-index
diptych index runs/first/model scans --to scans-index""",
    ),
    "classify": (
        classify.classify,
        """
diptych classify pocket ~/Pictures --labels "a cat,a dog"
diptych classify pocket a.jpg b.jpg --labels "a cat,a dog" --json""",
    ),
    "caption": (
        caption.caption,
        """
diptych caption runs/first ~/Pictures
diptych caption hf:ORG/NAME a.jpg b.jpg --html captions.html --open
diptych caption runs/first "scenes:?n=20&split=test" --json captions.json""",
    ),
    "ask": (
        ask.ask,
        """
diptych ask runs/first photo.jpg "What colour is the car?"
diptych ask runs/first photo.jpg "Is it day?" "How many people are there?" --below 0.4
diptych ask pocket photo.jpg "What is it?" --choices "a cat,a dog"
diptych ask runs/first photo.jpg "What is on the left?" --below health.json""",
    ),
    "chat": (
        chat.chat,
        """
diptych chat runs/first photo.jpg
diptych chat "http://localhost:8000/v1?model=NAME" photo.jpg
echo "What is this?" | diptych chat hf:ORG/NAME photo.jpg""",
    ),
    "embed": (
        embed.embed,
        """
diptych embed pocket ~/Pictures --to pictures.parquet
diptych embed pocket captions.txt --to captions.npy
diptych embed pocket --text "a red car" --text "a tree" --to texts.npy""",
    ),
    "list": (
        listing.list_,
        """
diptych list
diptych list families
diptych list models --json""",
    ),
    "doctor": (
        doctor.doctor,
        """
diptych doctor""",
    ),
}


def build() -> App:
    """All verbs as one cyclopts application."""
    style: dict[str, Any] = {"help_format": "markdown", "default_parameter": Parameter(negative=())}
    app = App("diptych", HELP, help_epilogue=_shown(EXAMPLES) + FOOT, version=diptych.__version__, **style)
    of_data = _shown("".join(examples for name, (_, examples) in VERBS.items() if name.startswith("data ")))
    groups = {"": app, "data": App("data", "Import, look at and clean datasets.", help_epilogue=of_data, **style)}
    for place, (name, (function, examples)) in enumerate(VERBS.items()):
        group, _, verb = name.rpartition(" ")
        groups[group].command(function, name=verb, help_epilogue=_shown(examples), sort_key=place)
    app.command(groups["data"])
    return app


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 done, 1 failed, 2 wrong usage or input (a sentence, no traceback)."""
    # Threads that wait by spinning starve each other as soon as another program wants a core; a short spin mends most
    # of it (docs/benchmarks.md). OpenMP reads this once, when torch loads it.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    words = terminal.begin(sys.argv[1:] if tokens is None else tokens)
    try:
        command, bound, _ = build().parse_args(words, exit_on_error=False, print_error=False)
        return int(command(*bound.args, **bound.kwargs) or 0)
    except (CycloptsError, InputError) as error:
        terminal.complain(str(error))
        return WRONG
    except KeyboardInterrupt:
        terminal.complain("interrupted")
        return FAILED
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        terminal.leave_pipe()
        return FAILED
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no reason was given"])[0]
        terminal.complain(f"{type(error).__name__}: {reason} (add --debug to see where)")
        return FAILED


def _shown(examples: str) -> str:
    return f"Examples:\n```{examples}\n```"
