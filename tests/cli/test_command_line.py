"""What all verbs share: help, exit codes, one sentence for an error, JSON, progress, a quick start."""

import io
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console
from said import Call

from diptych.cli import VERBS, build, terminal
from diptych.cli.train import parse_settings
from diptych.types import InputError


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_a_purpose_and_examples(call: Call, verb: str) -> None:
    function, examples = VERBS[verb]
    said = call(*verb.split(), "--help")
    purpose = (function.__doc__ or "").split("\n")[0]
    assert said.code == 0 and "Examples" in said.out
    assert purpose.split(":")[0].split("`")[0].strip() in " ".join(said.out.split())
    assert f"diptych {verb}" in examples and f"diptych {verb}" in said.out


def test_every_parameter_is_described() -> None:
    for verb in VERBS:
        app = build()
        for word in verb.split():
            app = app[word]
        shown = [argument for argument in app.assemble_argument_collection(parse_docstring=True) if argument.show]
        assert shown and [argument.name for argument in shown if not argument.parameter.help] == []


def test_a_model_that_judges_is_told_from_one_that_is_judged(call: Call) -> None:
    assert "CLIPScore" in call("eval", "--help").out


def test_help_and_version(call: Call) -> None:
    import diptych

    said = call("--help")
    assert said.code == 0 and all(verb.split()[0] in said.out for verb in VERBS)
    assert call().out == said.out
    assert call("--version").out.strip() == diptych.__version__


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["serch"], 'Unknown command "serch"'),
        (["eval", "pocket"], "--data requires an argument"),
        (["eval", "no-such-model", "--data", "clipart"], "model 'no-such-model': no such folder"),
        (["eval", "pocket", "--data", "x", "--task", "ocr"], 'Choose from: "retrieve", "classify"'),
        (["data", "show", "no-such-data"], "no-such-data: no such dataset"),
        (["data", "curate", "clipart"], "expected --to DIR for the new dataset, or --dry-run"),
        (["train", "clap", "--data", "clipart", "--out", "x"], "unknown family 'clap'; expected clip, lit"),
        (["train", "clip", "--data", "clipart", "--out", "x", "--trainnig.lr", "1"], "unknown section 'trainnig'"),
        (["train", "clip", "--data", "clipart", "--out", "x", "--training.rl", "1"], "unknown key 'rl'"),
        (["train", "clip", "--data", "clipart", "--out", "x", "--training.lr", "fast"], "training: lr: "),
        (["train", "clip", "--data", "clipart", "--out", "x", "--training.lr"], "--training.lr: expected a value"),
        (["train", "clip", "--data", "clipart", "--out", "x", "--preset", "huge"], "unknown preset 'huge'"),
        (["train", "clip", "--data", "clipart", "--out", "x", "--fast"], "unknown option '--fast'"),
        (["search", "."], "expected either a text or --image"),
        (["search", ".", "a cat", "--image", "cat.jpg"], "expected either a text or --image"),
        (["classify", "pocket", ".", "--labels", "cat"], "expected at least two classes"),
        (["embed", "pocket", ".", "--to", "x.csv"], "ends in .npy or .parquet"),
    ],
)
def test_wrong_usage_is_one_sentence_and_2(call: Call, words: list[str], sentence: str) -> None:
    said = call(*words)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("diptych: ") and sentence in said.err and len(said.err.splitlines()) == 1


def test_what_nobody_expected_is_one_line_and_1(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("the disk is on fire\nand more")

    monkeypatch.setitem(VERBS, "doctor", (broken, "diptych doctor"))
    said = call("doctor")
    assert said.code == 1 and said.err == "diptych: RuntimeError: the disk is on fire (add --debug to see where)\n"
    said = call("doctor", "--debug")
    assert said.code == 1 and "Traceback" in said.err and "in broken" in said.err


@pytest.mark.parametrize(
    ("words", "parsed"),
    [
        (["list", "--json"], ["list", "--json=-"]),
        (["list", "--json", "-"], ["list", "--json=-"]),
        (["eval", "m", "--json", "--data", "d"], ["eval", "m", "--json=-", "--data", "d"]),
        (["eval", "--json", "a.json", "--debug"], ["eval", "--json", "a.json"]),
        (["search", "x", "--", "--debug", "--json"], ["search", "x", "--", "--debug", "--json"]),
        (["embed", "-", "--json=b"], ["embed", "-", "--json=b"]),
    ],
)
def test_bare_json_goes_to_standard_output(words: list[str], parsed: list[str]) -> None:
    assert terminal.begin(words) == parsed


def test_json_overwrites_nothing_but_json(call: Call, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("file_name,caption\n")
    said = call("list", "datasets", "--json", tmp_path / "pairs.csv")
    assert said.code == 2 and "left as it is" in said.err
    assert (tmp_path / "pairs.csv").read_text() == "file_name,caption\n"
    for _ in range(2):
        assert call("list", "datasets", "--json", tmp_path / "new" / "list.json").code == 0
    assert json.loads((tmp_path / "new" / "list.json").read_text())[0]["dataset"] == "clipart"


def test_settings_by_section() -> None:
    words = ("--training.lr", "1e-3", "--model.vision.width=64", "--loader.seed", "-1")
    assert parse_settings(words) == {"training.lr": "1e-3", "model.vision.width": "64", "loader.seed": "-1"}
    with pytest.raises(InputError, match="unexpected 'stray'"):
        parse_settings(("stray",))


def test_names_that_are_no_unicode_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say("caf\udce9.jpg :smile: [red]")
    terminal.write_json(["caf\udce9.jpg"], "-")
    out = capsys.readouterr().out
    assert out.startswith("caf\\udce9.jpg :smile: [red]\n") and json.loads(out[out.index("[\n") :]) == ["caf\udce9.jpg"]


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=seen, force_terminal=True, width=80))
    with terminal.Working() as working:
        working("pictures", 64, 64)
        assert seen.getvalue() == "", "what is done at once needs no bar"
        for done in (0, 10, 64):
            working.of("pictures")(done, 64)
        assert "pictures" in seen.getvalue() and "0/64" in seen.getvalue()
        assert working._bars is None, "it goes when all is done"
        working("rows", 5, None)
        assert working._bars is not None
    assert working._bars is None


def test_progress_is_a_line_now_and_then_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    working = terminal.Working()
    working("pictures", 1, 2000)
    monkeypatch.setattr(terminal, "SPEAK_EVERY", 0.0)
    working("pictures", 1000, 2000)
    working("rows", 7, None)
    assert capsys.readouterr().err == "pictures: 1,000 of 2,000\nrows: 7\n"


# ---------------------------------------------------------------- as a process


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    heavy = ["torch", "transformers", "pyarrow", "numpy", "pydantic", "PIL", "matplotlib"]
    script = (
        f"import sys; from diptych.cli import main; main(['--help']); print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Usage: diptych COMMAND" in done.stdout and done.stdout.splitlines()[-1] == "[]"


def test_python_m_diptych_gives_the_exit_codes(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "diptych", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    good = run("data", "show", "clipart", "--json")
    assert (good.returncode, good.stderr) == (0, "") and json.loads(good.stdout)["samples"] > 8000
    wrong = run("data", "show", str(tmp_path / "nothing"))
    assert (wrong.returncode, wrong.stdout) == (2, "") and len(wrong.stderr.splitlines()) == 1
    failed = run("list", "datasets", "--json", "/dev/null/list.json")
    assert failed.returncode == 1 and "FileExistsError" in failed.stderr and "Traceback" not in failed.stderr


def test_fetching_has_the_same_defaults_on_the_command_line_and_in_python():
    from diptych.cli.data_fetch import Bounds, Manners
    from diptych.data.fetch import FetchOptions

    said = {**asdict(Bounds()), **asdict(Manners())}
    said["robots"] = not said.pop("ignore_robots")
    assert asdict(FetchOptions()) | said == asdict(FetchOptions())
    assert len(said) > 10
