"""Everything imports: with the core dependencies alone, without torch until something needs it, and at once."""

import ast
import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import diptych

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
MODULES = sorted(
    ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for file in (SOURCE / "diptych").rglob("*.py")
    if file.name != "__main__.py"  # importing it runs the command line
)
# reading and describing data, judging numbers and asking the command line for help must stay light
WITHOUT_TORCH = ["diptych.types", "diptych.config", "diptych.images", "diptych.paths", "diptych.data", "diptych.cli"]
WITHOUT_TORCH += [name for name in MODULES if name.startswith(("diptych.data.curate", "diptych.evaluation.metrics"))]


def run(code: str, *options: str, **variables: str) -> str:
    """What a fresh interpreter prints that finds the source tree first."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), **variables}
    done = subprocess.run([sys.executable, *options, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", MODULES)
def test_module_imports(name: str) -> None:
    assert importlib.import_module(name).__name__ == name


def test_import_diptych_loads_the_standard_library_only() -> None:
    code = "import sys, json; old = set(sys.modules); import diptych; print(json.dumps(sorted(set(sys.modules) - old)))"
    loaded = {name.split(".")[0] for name in json.loads(run(code))}
    assert "diptych" in loaded
    assert loaded - {"diptych"} <= set(sys.stdlib_module_names)


def test_import_diptych_takes_under_300_ms() -> None:
    """The best of several fresh interpreters, without their own start."""
    code = "from time import perf_counter as now; start = now(); import diptych; print(now() - start)"
    assert min(float(run(code)) for _ in range(5)) < 0.3


def test_light_modules_do_without_torch() -> None:
    imports = "; ".join(f"import {name}" for name in WITHOUT_TORCH)
    heavy = run(f"import sys; {imports}; print(*sorted({{'torch', 'transformers', 'matplotlib'}} & set(sys.modules)))")
    assert heavy.split() == []


def test_public_names_resolve_and_are_all_listed() -> None:
    for name in diptych.__all__:
        assert getattr(diptych, name) is not None
    assert set(diptych.__all__) <= set(dir(diptych))
    tree = ast.parse((SOURCE / "diptych" / "__init__.py").read_text(encoding="utf-8"))
    hinted = next(node for node in tree.body if isinstance(node, ast.If))
    for_checkers = {
        alias.name: node.module for node in hinted.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert for_checkers == diptych._HOMES
    assert set(for_checkers) == set(diptych.__all__)
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        diptych.serach  # noqa: B018


def core_dependencies() -> dict[str, importlib.metadata.Distribution]:
    """The distributions that installing Diptych without extras brings, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    found, seen = {}, set()
    while waiting:
        requirement = waiting.pop()
        name, extras = re.sub(r"[-_.]+", "-", requirement.name).lower(), {"", *requirement.extras}
        if (name, *sorted(extras)) in seen:
            continue
        seen.add((name, *sorted(extras)))
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # required on other platforms, or replaced by a vendor's build
            continue
        for text in found[name].requires or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                needed.marker = None
                waiting.append(needed)
    return found


def link_packages(found: dict[str, importlib.metadata.Distribution], folder: Path) -> None:
    """A site folder that holds these distributions and nothing else."""
    folder.mkdir()
    for package in found.values():
        for name in {Path(file).parts[0] for file in package.files or []} - {"..", "__pycache__"}:
            link = folder / name
            if not link.exists() and not name.endswith(".pth"):
                link.symlink_to(Path(str(package.locate_file(name))))


def test_every_module_imports_with_the_core_dependencies_alone(tmp_path: Path) -> None:
    core = core_dependencies()
    assert {"torch", "transformers", "numpy"} <= set(core)
    link_packages(core, tmp_path / "site")
    script = f"""
import importlib, sys
sys.path[:0] = [{str(SOURCE)!r}, {str(tmp_path / "site")!r}]
for name in ("pytest", "hypothesis", "mypy", "xdist", "beartype"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        pass
    else:
        raise SystemExit(name + " is not a core dependency and yet can be imported: the test shows nothing")
for name in {MODULES!r}:
    importlib.import_module(name)
print(len(sys.modules))
"""
    assert int(run(script, "-I", "-S")) > len(MODULES)
