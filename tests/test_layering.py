"""Who may import whom, and the other rules of the house that reading the source can check.

Imports inside functions count, and so do imports for type checkers (what a module needs for a hint it knows about) and
addresses written as text ("diptych.models.clip:CLIP"), which are the laziest imports of all.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from diptych import types

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "diptych"

# The table. docs/design.md holds the same one for readers, and a test compares the two.
# A part may import what stands in its row, and rows name only parts that stand above them, so that there is no circle.
BOTTOM = {"types", "capabilities", "paths", "distributed", "imagenet", "config", "images", "machine"}
MAY_IMPORT: dict[str, set[str]] = {
    "types": set(),
    "capabilities": {"types"},
    "paths": set(),
    "distributed": set(),
    "imagenet": set(),
    "config": {"types"},
    "images": {"types"},
    "machine": {"types"},
    "evaluation/metrics": {"types"},
    "data": {"types", "capabilities", "paths", "config", "images", "imagenet"},
    "blocks": BOTTOM,
    "objectives": BOTTOM,
    "processing": BOTTOM,
    "decoding": BOTTOM,
    "towers": BOTTOM | {"blocks"},
    "models": BOTTOM | {"blocks", "towers", "objectives", "processing", "decoding"},
    "training": BOTTOM | {"data", "objectives", "processing", "decoding"},
    "tasks": BOTTOM | {"data", "processing"},
    "search": BOTTOM | {"data", "tasks"},
    "evaluation": BOTTOM | {"data", "tasks", "search", "evaluation/metrics"},
    "recipes": BOTTOM | {"models", "training"},
    "pocket": BOTTOM | {"data", "processing", "towers", "models", "tasks"},
}
MAY_IMPORT["fitting"] = set(MAY_IMPORT)
MAY_IMPORT["labelling"] = set(MAY_IMPORT)
MAY_IMPORT["api"] = set(MAY_IMPORT)
MAY_IMPORT["__init__"] = set(MAY_IMPORT)
MAY_IMPORT["cli"] = set(MAY_IMPORT)

# The one arrow that points up: models.MODELS names the function that makes each ready-made model, as text.
ADDRESSES = {("models", "pocket")}

# Numbers in, number out: nothing here may need more than arrays.
METRICS_MAY_USE = {"numpy", "scipy", "pyarrow", "jaxtyping", "hotcoco", "rapidfuzz", "snowballstemmer", "numba"}

LINES_IN_FILE, LINES_IN_FUNCTION, LINES_IN_LOOP = 500, 80, 200


class Arrow(NamedTuple):
    """One import: which part imports which, and where."""

    source: str
    target: str
    where: str
    as_text: bool = False


def part_of(module: str) -> str:
    """The row that a module of the package belongs to: "diptych.models.clip" is in "models"."""
    names = module.split(".")[1:] or ["__init__"]
    if names == ["__main__"]:
        return "cli"  # `python -m diptych`
    return "/".join(names[:2]) if "/".join(names[:2]) in MAY_IMPORT else names[0]


def module_of(file: Path, package: Path) -> str:
    names = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imported(tree: ast.Module, module: str, is_package: bool, modules: set[str]) -> Iterator[tuple[str, int, bool]]:
    """Every module of `modules` that the tree imports or names as text: (module, line, named as text)."""
    root = module.split(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")
            above = above[: len(above) - node.level + is_package] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            address = node.value.partition(":")[0]
            if "." in address and address in modules:
                yield address, node.lineno, True
            continue
        else:
            continue
        for name in names:
            if name.split(".")[0] == root:
                yield name, node.lineno, False


def arrows(package: Path) -> list[Arrow]:
    """Every import between two parts of `package`."""
    files = sorted(package.rglob("*.py"))
    modules = {module_of(file, package) for file in files}
    found = []
    for file in files:
        module, tree = module_of(file, package), ast.parse(file.read_text(encoding="utf-8"))
        for target, line, as_text in imported(tree, module, file.name == "__init__.py", modules):
            if part_of(module) != part_of(target):
                where = f"{file.relative_to(package.parent)}:{line}"
                found.append(Arrow(part_of(module), part_of(target), where, as_text))
    return found


def violations(package: Path) -> list[str]:
    """The arrows that are not in the table, in words."""
    return [
        f"{a.where}: {a.source} may not import {a.target}"
        for a in arrows(package)
        if a.target not in MAY_IMPORT.get(a.source, set()) and not (a.as_text and (a.source, a.target) in ADDRESSES)
    ]


def test_every_import_is_in_the_table() -> None:
    assert len(arrows(SOURCE)) > 100, "the walk finds the imports"
    assert not violations(SOURCE), "\n".join(violations(SOURCE))


def test_every_part_is_in_the_table_and_every_row_is_a_part() -> None:
    parts = {part_of(module_of(file, SOURCE)) for file in SOURCE.rglob("*.py")}
    assert parts == set(MAY_IMPORT)


def test_rows_name_only_parts_above_them() -> None:
    above: set[str] = set()
    for part, allowed in MAY_IMPORT.items():
        assert allowed <= above, f"{part} names {sorted(allowed - above)} before their rows"
        above.add(part)


def test_addresses_are_still_needed() -> None:
    assert {(a.source, a.target) for a in arrows(SOURCE) if a.as_text} >= ADDRESSES


@pytest.mark.parametrize(
    ("file", "line", "target"),
    [
        ("towers/vit.py", "from diptych.models.clip import CLIP", "models"),
        ("towers/vit.py", "import diptych.models.clip", "models"),
        ("towers/vit.py", "from diptych import models", "models"),
        ("towers/vit.py", "from ..models import clip", "models"),
        ("towers/__init__.py", "from ..models.clip import CLIP", "models"),
        ("towers/vit.py", "def f():\n    if True:\n        from diptych.models import clip", "models"),
        ("towers/vit.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import diptych.models", "models"),
        ("towers/vit.py", "HOMES = {'clip': 'diptych.models.clip:CLIP'}", "models"),
        ("towers/vit.py", "from diptych import load", "__init__"),
        ("towers/vit.py", "import diptych", "__init__"),
        ("types.py", "from diptych.config import parse", "config"),
        ("data/store.py", "from diptych.machine import best_device", "machine"),
        ("evaluation/metrics/ranks.py", "from diptych.data.store import Dataset", "data"),
        ("evaluation/metrics/ranks.py", "from diptych.evaluation.retrieve import evaluate", "evaluation"),
        ("newcomer.py", "from diptych.types import Sample", "types"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, line: str, target: str) -> None:
    package = tmp_path / "diptych"
    existing = ["__init__.py", "types.py", "config.py", "machine.py", "models/__init__.py", "models/clip.py"]
    existing += ["data/__init__.py", "data/store.py", "evaluation/__init__.py", "evaluation/retrieve.py"]
    for name in [*existing, file]:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()
    assert not violations(package)
    (package / file).write_text(line)
    found = violations(package)
    assert len(found) == 1 and found[0].startswith(f"diptych/{file}:") and found[0].endswith(f"import {target}")


def test_what_is_allowed_is_not_reported(tmp_path: Path) -> None:
    package = tmp_path / "diptych"
    (package / "models").mkdir(parents=True)
    (package / "towers.py").touch()
    (package / "pocket.py").touch()
    (package / "models" / "__init__.py").write_text(
        "import torch\nfrom diptych import towers\nfrom . import clip\nMODELS = {'pocket': 'diptych.pocket:load'}\n"
    )
    (package / "models" / "clip.py").write_text("'''See diptych.pocket for more.'''\nfrom diptych.models import x\n")
    assert not violations(package)


def test_the_documented_table_is_this_one() -> None:
    assert documented_table((ROOT / "docs" / "design.md").read_text(encoding="utf-8")) == MAY_IMPORT


def documented_table(text: str) -> dict[str, set[str]]:
    """The table under "Who may import whom". "the bottom" and "everything above" stand for the parts they say."""
    section = text.partition("## Who may import whom")[2].partition("\n## ")[0]
    table: dict[str, set[str]] = {}
    for parts, cell in re.findall(r"^\| (`.*?) \| (.*?) \|", section, flags=re.MULTILINE):
        allowed = cell.partition(";")[0]  # a remark may follow
        may = set(re.findall(r"`(.+?)`", allowed))
        may |= BOTTOM if "the bottom" in allowed else set()
        may |= set(table) if "everything above" in allowed else set()
        assert may or allowed == "nothing", f"a row that cannot be read: {allowed}"
        table |= dict.fromkeys(re.findall(r"`(.+?)`", parts), may)
    return table


# ---------------------------------------------------------------- the other rules


def sources() -> list[tuple[Path, ast.Module]]:
    return [(file, ast.parse(file.read_text(encoding="utf-8"))) for file in sorted(SOURCE.rglob("*.py"))]


def test_metrics_need_arrays_only() -> None:
    used = set()
    for file, tree in sources():
        if "metrics" in file.parts:
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    used |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    used.add((node.module or "").split(".")[0])
    assert "numpy" in used
    assert used - set(sys.stdlib_module_names) - {"diptych"} <= METRICS_MAY_USE


def test_files_and_functions_stay_short() -> None:
    long = []
    for file in [*SOURCE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        text = file.read_text(encoding="utf-8")
        if len(text.splitlines()) > LINES_IN_FILE:
            long.append(f"{file.name}: {len(text.splitlines())} lines, at most {LINES_IN_FILE}")
        most = LINES_IN_LOOP if file == SOURCE / "training" / "loop.py" else LINES_IN_FUNCTION
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > most:
                    long.append(f"{file.name}: {node.name} has {lines} lines, at most {most}")
    assert not long, "\n".join(long)


def test_annotated_shapes_are_checked_and_use_the_legend() -> None:
    """Shapes behind `from __future__ import annotations` or TYPE_CHECKING are text that nothing checks."""
    legend = set(re.findall(r"\b([A-Z])\b(?=[^|]*\|)", types.__doc__ or ""))
    assert {"B", "C", "H", "W", "D", "N", "M", "T", "S", "P", "V", "K"} <= legend
    wrong = []
    for file, tree in sources():
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        shapes = [shape for function in functions for shape in annotated_shapes(function)]
        for shape in shapes:
            letters = {letter for word in shape.split() for letter in re.findall(r"^[*#]?([A-Z])\d?$", word)}
            if letters - legend:
                wrong.append(f"{file.name}: {shape!r} has a letter that the legend in types.py lacks")
        postponed = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
        is_protocol = file in (SOURCE / "capabilities.py", SOURCE / "towers" / "outputs.py")
        if shapes and postponed and not is_protocol:
            wrong.append(f"{file.name}: shapes are not checked under 'from __future__ import annotations'")
    assert not wrong, "\n".join(wrong)


def annotated_shapes(function: ast.FunctionDef) -> list[str]:
    """The shape strings in a function's arguments and return value."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    hints = [hint for hint in [*(a.annotation for a in arguments), function.returns] if hint is not None]
    return [
        node.slice.elts[1].value
        for hint in hints
        for node in ast.walk(hint)
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("Float", "Int", "Bool", "Shaped", "UInt8")
        and isinstance(node.slice, ast.Tuple)
        and isinstance(node.slice.elts[1], ast.Constant)
        and isinstance(node.slice.elts[1].value, str)
    ]
