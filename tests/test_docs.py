"""The documents tell the truth: their commands, paths, links, names and examples exist."""

import ast
import contextlib
import importlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from cyclopts import CycloptsError

import diptych
from diptych import data, models, types
from diptych.cli import build, terminal

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TOP = {"src", "tests", "docs", "benchmarks", "scripts", ".ci"}
PACKAGES = {folder.name for folder in (ROOT / "src" / "diptych").iterdir() if (folder / "__init__.py").exists()}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page: (language, content)."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def spans(page: Path) -> list[str]:
    """What stands in backquotes outside of blocks."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def command_lines(page: Path) -> list[list[str]]:
    """Calls of `diptych` and `make` in blocks, as words; `python -m diptych` and torchrun count as `diptych`."""
    found = []
    for line in "\n".join(content for _, content in blocks(page)).replace("\\\n", " ").splitlines():
        line = re.sub(r"^(\$ )?(torchrun .*?-m (?:-- )?|python3? -m )?(?=(diptych|make)\b)", "", line)
        if re.match(r"(diptych|make)( |$)", line):
            for part in line.split(" | "):
                words = shlex.split(part, comments=True)
                found.append(words if words[0] in ("diptych", "make") else ["diptych", *words])
    return found


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


# ---------------------------------------------------------------- commands


def test_the_readme_shows_its_commands() -> None:
    verbs = {" ".join(words[:2]) for words in command_lines(README)}
    assert {"make demo", "make test", "diptych search", "diptych train", "diptych eval"} <= verbs


def accepted(words: list[str]) -> bool:
    """Whether the real command line, or the Makefile, takes these words, options included. Nothing is run."""
    if words[0] == "make":
        return set(words[1:]) <= make_targets()
    if "..." in words:
        return verb_exists(words[1:])
    try:
        command, _, ignored = build().parse_args(terminal.begin(words[1:]), exit_on_error=False, print_error=False)
    except CycloptsError:
        return False
    return callable(command) and not ignored


@every_page
def test_command_lines_are_accepted(page: Path) -> None:
    assert not [shlex.join(words) for words in command_lines(page) if not accepted(words)]


@pytest.mark.parametrize(
    "line",
    ["diptych serach ~/Pictures cat", "diptych train clip --dta x --out y", "diptych eval pocket", "make tset"],
)
def test_wrong_command_lines_are_not_accepted(tmp_path: Path, line: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"Say\n\n```sh\ndiptych list\n$ {line}   # quietly\n```\n")
    assert [accepted(words) for words in command_lines(page)] == [True, False]


@every_page
def test_commands_in_a_sentence_exist(page: Path) -> None:
    for span in spans(page):
        words = span.split()
        if words[0] == "make" and len(words) > 1:
            assert set(words[1:]) <= make_targets(), span
        elif words[0] == "diptych" and len(words) > 1 and not words[1].startswith("-"):
            assert verb_exists(words[1:]), span


def verbs() -> set[str]:
    """The verbs of the command line, those of a group with its name: "search", "data import"."""
    app = build()
    found = set()
    for name in app:
        inner = [verb for verb in app[name] if not verb.startswith("-")]
        found |= {f"{name} {verb}" for verb in inner} if inner else {name}
    return {name for name in found if not name.startswith("-")}


def verb_exists(words: list[str]) -> bool:
    return words[0] in verbs() or " ".join(words[:2]) in verbs()


def test_every_verb_is_in_the_readme_or_its_docs() -> None:
    assert {"search", "train", "data import"} <= verbs()
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert not [verb for verb in verbs() if f"diptych {verb}" not in text]


# ---------------------------------------------------------------- paths and links


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in headings(target), f"{page.name}: {link}"


def headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_paths_exist(page: Path) -> None:
    """Paths in backquotes that begin with a folder of the repository or a part of the package."""
    for span in spans(page):
        if not re.fullmatch(r"[\w.-]+(/[\w.*-]*)+", span):
            continue
        first = span.split("/")[0]
        if first in TOP:
            assert list(ROOT.glob(span.rstrip("/"))), f"{page.name}: {span}"
        elif first in PACKAGES:
            places = [span.rstrip("/"), f"{span}.py"]
            assert any((ROOT / "src" / "diptych" / place).exists() for place in places), f"{page.name}: {span}"


def test_the_layout_in_the_design_is_the_one_on_disk() -> None:
    listing = blocks(ROOT / "docs" / "design.md")[1][1]
    named = set(re.findall(r"^  ([\w.]+)/? ", listing, flags=re.MULTILINE))
    package = ROOT / "src" / "diptych"
    there = {f.name for f in package.glob("*.py") if f.name != "__main__.py"} | PACKAGES
    assert named == there
    assert all((ROOT / name).is_dir() for name in re.findall(r"^(\w+)/ ", listing, flags=re.MULTILINE))


# ---------------------------------------------------------------- names and examples


@every_page
def test_python_blocks_compile_and_name_what_exists(page: Path) -> None:
    for language, content in blocks(page):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "diptych":
                for alias in node.names:
                    assert hasattr(importlib.import_module(node.module or ""), alias.name), alias.name
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "diptych":
                assert node.attr in diptych.__all__, f"{page.name}: diptych.{node.attr}"


@every_page
def test_names_in_a_sentence_exist(page: Path) -> None:
    """`diptych.data.loader.Loader`, `diptych.curate(dataset, to)`: the dotted name before the bracket."""
    for span in spans(page):
        if match := re.match(r"diptych((?:\.\w+)+)", span):
            found: Any = diptych
            for name in match[1].split(".")[1:]:
                if not hasattr(found, name):
                    importlib.import_module(f"{found.__name__}.{name}")
                found = getattr(found, name)


def test_the_readmes_python_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a tiny model in the place of the ready-made one, and a few built-in pictures in the place of one's own."""
    from diptych.models import clip
    from diptych.processing import ImageConfig
    from diptych.towers import TextTransformerConfig, ViTConfig

    vision = ViTConfig(image_size=16, patch_size=8, width=32, layers=1, heads=2)
    text = TextTransformerConfig(vocab_size=300, context_length=12, width=32, layers=1, heads=2, eos_id=1)
    config = clip.CLIPConfig(vision, text, ImageConfig(size=16), embed_dim=16)
    pictures = data.open_dataset("clipart").select(range(8))
    monkeypatch.setattr(diptych, "load", lambda name: clip.CLIP.new(config, ["a red car"]).eval())
    monkeypatch.setattr(diptych, "open_dataset", lambda address: pictures)
    (example,) = [content for language, content in blocks(README) if language == "python"]
    assert 3 <= len([line for line in example.splitlines() if line.strip()]) <= 6, "the example is five lines or so"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(example, str(README), "exec"), {})
    ids = [line.split("  ", 1)[1] for line in printed.getvalue().splitlines()]
    assert len(ids) == 5 and set(ids) <= set(pictures.ids)


# ---------------------------------------------------------------- tables that repeat what the code says


def rows(text: str) -> list[list[str]]:
    """The cells of every table row."""
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_the_shape_legend_is_the_one_of_the_types() -> None:
    section = (
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Shape legend")[2].partition("\n## ")[0]
    )
    documented = {row[0]: row[1] for row in rows(section) if len(row) == 2 and row[0][0].isupper()}
    defined = {}
    for row in rows(types.__doc__ or ""):
        for letters, meaning in zip(row[::2], row[1::2]):
            if letters[0].isupper():
                defined[letters] = meaning
    assert documented == defined and len(defined) >= 10


def test_the_families_that_work_are_said_to_work() -> None:
    section = README.read_text(encoding="utf-8").partition("## Families")[2].partition("\n## ")[0]
    states = {row[0].strip("`"): row[2] for row in rows(section) if len(row) == 3}
    assert {name for name, state in states.items() if state == "works"} == set(models.FAMILIES)
    assert set(states.values()) <= {"state", "works", "planned", "---"}
    pages = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("families.md", "fusion.md")]
    cards = {card for page in pages for card in re.findall(r"^## (\w+)$", page, flags=re.MULTILINE)}
    assert cards >= set(models.FAMILIES)


def test_ci_runs_the_readmes_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert ["make", "test"] in command_lines(README)
