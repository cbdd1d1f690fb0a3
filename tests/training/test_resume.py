"""A run that is killed goes on as if nothing had happened, bit by bit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from diptych.training.run import cut_metrics

HERE = Path(__file__).parent
CLOCKS = ("elapsed", "samples_per_second")


def run(out, kill_at=-1, kill_in=-1):
    paths = [str(HERE), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, str(HERE / "resume_worker.py"), str(out), str(kill_at), str(kill_in)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, timeout=120, check=False).returncode


def losses(out):
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCKS} for line in found]


def test_killed_twice_and_resumed_equals_one_run(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(whole) == 0
    # 24 steps with a checkpoint every 4 and a log line every 5. Killed before step 12 the run goes on from step 8, and
    # killed in the middle of checkpoint 16 from step 12. Both moments lie between two log lines.
    assert run(broken, kill_at=11) == -signal.SIGKILL
    assert max(line["step"] for line in losses(broken)) == 10
    assert run(broken, kill_in=16) == -signal.SIGKILL
    assert max(line["step"] for line in losses(broken)) == 15
    newest = sorted(path.name for path in (broken / "checkpoints").iterdir())
    assert newest == [".writing-step-00000016", "step-00000008", "step-00000012"]
    assert run(broken) == 0
    assert losses(broken) == losses(whole)
    assert [line["step"] for line in losses(whole)] == [1, 5, 10, 15, 20, 24]

    ends = [out / "checkpoints" / "step-00000024" for out in (whole, broken)]
    one, two = (torch.load(end / "state.pt", weights_only=True) for end in ends)
    assert all(torch.equal(one["model"][name], two["model"][name]) for name in one["model"])
    assert one["model"]["seen"] == 24 * 8
    for index, moments in one["optimizer"]["state"].items():
        assert all(torch.equal(value, two["optimizer"]["state"][index][name]) for name, value in moments.items())
    averages = [load_file(end / "ema.safetensors") for end in ends]
    assert all(torch.equal(averages[0][name], averages[1][name]) for name in averages[0])
    assert not torch.equal(averages[0]["scale"], one["model"]["scale"])


def test_metrics_after_the_checkpoint_are_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = [json.dumps({"kind": "train", "step": step, "loss": 1.0}) + "\n" for step in (1, 5, 10)]
    path.write_text("".join(whole) + '{"kind": "train", "st')
    cut_metrics(path, 5)
    assert path.read_text() == "".join(whole[:2])
    cut_metrics(path, 0)
    assert path.read_text() == ""
    cut_metrics(tmp_path / "absent", 5)
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
