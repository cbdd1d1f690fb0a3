"""`diptych train --processes`: the command is given over to torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diptych.cli.train import run_in
from diptych.types import InputError


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "diptych", "train", "virtex", "--data", "scenes:?n=24&size=32&objects=1"]
    command += ["--out", str(tmp_path / "run"), "--processes", "2", "--training.steps", "3", "--loader.batch_size", "8"]
    command += ["--loader.held_out", "0", "--model.image.size", "32"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("model: ") == 1, "only the first process speaks"
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["samples"]) == (3, 24)
    assert (tmp_path / "run" / "model" / "config.json").exists()

    further = [*command[:4], "virtex", "--data", "scenes:?n=24&size=32&objects=1", "--out", str(tmp_path / "more")]
    further += ["--start", str(tmp_path / "run"), "--processes", "2", "--training.steps", "1"]
    further += ["--loader.batch_size", "8", "--loader.held_out", "0"]
    run = subprocess.run(further, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path / "more" / "environment.json").read_text())["processes"] == 2


def test_the_cores_are_shared_among_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(os, "execv", lambda program, words: called.append((program, words)))
    monkeypatch.setattr(sys, "argv", ["diptych", "train", "clip", "--processes", "3"])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("TORCH_CPP_LOG_LEVEL", raising=False)
    monkeypatch.setattr("diptych.machine.cores", lambda: 8)
    run_in(3, "scenes:?n=2&size=32")
    ((program, words),) = called
    assert program == words[0] == sys.executable and words[-4:] == ["train", "clip", "--processes", "3"]
    assert words[words.index("--nproc-per-node") + 1] == "3"
    assert os.environ["OMP_NUM_THREADS"] == "2"
    with pytest.raises(InputError, match="--processes: expected 1 or more, got 0"):
        run_in(0, "scenes:?n=2&size=32")
