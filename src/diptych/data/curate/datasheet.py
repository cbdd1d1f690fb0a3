"""The datasheet of a curated dataset: what it holds, where it is from, what was dropped and why, for a person.

After Gebru et al., "Datasheets for Datasets" (2018), as far as the data itself can answer their questions.
Deviation: no date, so that the same plan on the same data gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diptych.config import as_dict
from diptych.data.curate.lists import counts, flat
from diptych.data.curate.plan import Plan
from diptych.data.curate.running import Outcome
from diptych.data.curate.steps import StepReport
from diptych.data.store import Dataset

NAME = "datasheet.md"
COUNTED = {"source": "Sources", "license": "Licences", "split": "Splits", "creator": "Creators", "label": "Labels"}
TOP = 10  # values of a field that are named
EXAMPLES = 20  # of a step in dataset.json
SHOWN = 3  # of a step in the datasheet


def facts(dataset: Dataset, plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """What `dataset.json` keeps about a curation, ready for JSON."""
    done = outcome.report
    return {
        "plan": as_dict(plan),
        "plan_fingerprint": plan.fingerprint(),
        "curated_from": {"name": dataset.name, "fingerprint": dataset.fingerprint(), "rows": len(dataset)},
        "curation": {
            "rows_before": done.rows_before,
            "rows_after": done.rows_after,
            "steps": [step_facts(step, EXAMPLES) for step in done.steps],
        },
        "holds": {
            "captions": _captions(outcome.rows["captions"]),
            **{name: _values(dataset, name, outcome.rows["row"]) for name in COUNTED},
        },
    }


def step_facts(step: StepReport, examples: int) -> dict[str, Any]:
    """One step's effect with some of its examples, ready for JSON."""
    shown = step.examples[:: max(1, len(step.examples) // max(examples, 1))][:examples]
    return {
        "name": step.name,
        "sentence": step.sentence,
        "rows_before": step.rows_before,
        "rows_after": step.rows_after,
        "changed": step.changed,
        "examples": [{"id": c.id, "before": c.before, "after": c.after} for c in shown],
    }


def datasheet(name: str, found: Mapping[str, Any], rejected: Mapping[str, int]) -> str:
    """The page in Markdown.

    Args:
        name: of the new dataset.
        found: from `facts`.
        rejected: reason -> rows that could not be read when the source was imported.
    """
    source, done, holds = found["curated_from"], found["curation"], found["holds"]
    steps = done["steps"]
    lines = [
        f"# {name}",
        "",
        f"{done['rows_after']:,} of the {done['rows_before']:,} samples of {source['name']}, after {len(steps)} "
        "steps of curation. The source was not changed.",
        "",
        "## What it holds",
        "",
        *_table(("", ""), [("samples", f"{done['rows_after']:,}"), *_caption_lines(holds["captions"])]),
        "",
        "## Where it is from",
        "",
    ]
    for field, title in COUNTED.items():
        lines += _value_lines(title, holds[field])
    lines += ["## What was dropped and changed, and why", ""]
    if rejected:
        told = ", ".join(f"{number:,} {reason}" for reason, number in rejected.items())
        lines += [f"Before this, rows of the source that could not be read were rejected: {told}.", ""]
    rows = [(s["name"], f"{s['rows_before']:,}", f"{s['rows_after']:,}", f"{s['changed']:,}") for s in steps]
    lines += [*_table(("step", "rows before", "rows after", "dropped or changed"), rows), ""]
    for step in steps:
        lines += [f"**{step['name']}.** {step['sentence']}", ""]
        for example in step["examples"][:: max(1, len(step["examples"]) // SHOWN)][:SHOWN]:
            after = example["after"] or "(nothing is left)"
            if step["rows_after"] < step["rows_before"] and not example["after"]:
                after = "dropped"
            lines.append(f"- `{_cell(example['id'])}`: {_cell(example['before']) or '(nothing)'} → {_cell(after)}")
        lines += [""] if step["examples"] else []
    lines += ["## How it was made", ""]
    lines += [f"Plan `{found['plan_fingerprint']}` on data `{source['fingerprint']}`:", ""]
    lines += ["```json", json.dumps(found["plan"], indent=2, ensure_ascii=False), "```", ""]
    return "\n".join(lines)


def _captions(column: Any) -> dict[str, Any]:
    texts = flat(column)
    words = pc.count_substring_regex(texts, r"\S+").to_numpy()
    least, low, middle, high, most = np.percentile(words, (0, 5, 50, 95, 100)).tolist() if len(words) else [0.0] * 5
    return {
        "all": len(texts),
        "distinct": pc.count_distinct(texts).as_py(),
        "samples_without": int((counts(column) == 0).sum()),
        "words": {"least": least, "5 %": low, "median": middle, "95 %": high, "most": most},
    }


def _caption_lines(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    words = found["words"]
    return [
        ("captions", f"{found['all']:,}, of which {found['distinct']:,} are distinct"),
        ("samples without a caption", f"{found['samples_without']:,}"),
        (
            "words in a caption",
            f"{words['median']:g} in the median, 90 % have {words['5 %']:g} to {words['95 %']:g}, "
            f"all {words['least']:g} to {words['most']:g}",
        ),
    ]


def _values(dataset: Dataset, field: str, rows: Any) -> dict[str, Any]:
    """How often the commonest values of a field stand in the source and in what was kept."""
    column = dataset.table(None, (field,))[field]
    mask = np.zeros(len(column), dtype=bool)
    mask[rows.to_numpy()] = True
    before, after = _counted(column), _counted(column.filter(pa.array(mask)))
    top = sorted(before, key=lambda value: (-after.get(value, 0), -before[value], value))[:TOP]
    return {
        "distinct": {"before": len(before), "after": len(after)},
        "empty": {"before": column.null_count, "after": len(rows) - sum(after.values())},
        "top": {value: {"before": before[value], "after": after.get(value, 0)} for value in top},
    }


def _counted(column: Any) -> dict[str, int]:
    found = pc.value_counts(column.drop_null())
    return dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True))


def _value_lines(title: str, found: Mapping[str, Any]) -> list[str]:
    distinct, top = found["distinct"], found["top"]
    if not top:
        return [f"**{title}.** Not known.", ""]
    rows = [(_cell(value), f"{n['before']:,}", f"{n['after']:,}") for value, n in top.items()]
    if distinct["before"] > len(top):
        others = distinct["before"] - len(top)
        rows.append((f"{others:,} others", "", ""))
    if found["empty"]["before"]:
        rows.append(("(not known)", f"{found['empty']['before']:,}", f"{found['empty']['after']:,}"))
    head = f"**{title}.** {distinct['after']:,} of {distinct['before']:,}."
    return [head, "", *_table(("", "samples before", "after"), rows), ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return [f"| {' | '.join(line)} |" for line in (head, rule, *rows)]


def _cell(text: str, most: int = 160) -> str:
    """A text on one line that does not end a table's cell or a code span."""
    plain = " ".join(text.split()).replace("|", "/").replace("`", "'")
    return plain if len(plain) <= most else plain[: most - 1] + "…"
