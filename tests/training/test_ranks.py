"""Two processes that train together do what one does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks_worker import CLIP_RUNS, RUNS, runs

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found and left: (folder, one dict of findings per process)."""
    out = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(HERE), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
    common = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "ranks_worker.py"), str(out)],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=180)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return out, [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    out = tmp_path_factory.mktemp("one")
    runs(out, rank=0, world=1)
    return out


def curve(out, name):
    return [json.loads(line) for line in (out / name / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_equal_one(one, two, name):
    single, both = curve(one, name), curve(two[0], name)
    assert [line["step"] for line in both] == [line["step"] for line in single] == [1, 4, 8, 12]
    for left, right in zip(single, both):
        # of a mean over words the curve is that over the processes' means
        for key in (*(() if name.startswith("words") else ("loss",)), "grad_norm", "lr", "samples"):
            assert right[key] == pytest.approx(left[key], abs=1e-6, rel=1e-6), (name, key, left["step"])
        for key in {"chance/loss/itc", "logit_scale"} & left.keys():
            assert right[key] == pytest.approx(left[key], abs=1e-6)
    assert single[-1]["loss"] < 0.9 * single[0]["loss"]  # a run in which nothing moves would prove nothing
    ends = [torch.load(out / f"{name}.pt", weights_only=True) for out in (one, two[0])]
    assert ends[0]["samples"] == ends[1]["samples"]
    for key, weight in ends[0]["weights"].items():
        if key != "seen":  # a buffer of its own process
            torch.testing.assert_close(ends[1]["weights"][key], weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CLIP_RUNS)
def test_the_real_clip_on_two_processes_equals_one(one, two, name):
    single, both = curve(one, name), curve(two[0], name)
    assert len(both) == len(single) == 4
    for left, right in zip(single, both):
        assert right["loss"] == pytest.approx(left["loss"], abs=1e-6)
        assert right["grad_norm"] == pytest.approx(left["grad_norm"], rel=1e-5)
    ends = [torch.load(out / f"{name}.pt", weights_only=True)["weights"] for out in (one, two[0])]
    for key, weight in ends[0].items():
        # Softmax does not see a bias of the keys: its gradient is rounding noise, which Adam blows up to the full rate.
        if not key.endswith("k_proj.bias"):
            torch.testing.assert_close(ends[1][key], weight, rtol=0, atol=2e-5)


def test_rows_are_gathered_in_order_and_gradients_summed(two):
    _, found = two
    for rank in range(2):
        assert found[rank]["rows"] == [[0, 0], [10, -10], [11, -11]]
        assert found[rank]["scalar"] == [0, 1]
        assert found[rank]["sum"] == [2, 1]
        assert found[rank]["numbers"] == [[0, 0.5], [1, 0.5]]
        assert found[rank]["objects"] == [{"rank": 0}, {"rank": 1}]
    assert [f["gradient"] for f in found] == [[[0, 3]], [[6, 9], [12, 15]]]  # (1 + 2) times the weights' own rows
    assert [f["first_row"] for f in found] == [0, 1]
    assert [f["main"] for f in found] == [True, False]


def test_a_broken_sample_on_one_process_stops_both(two):
    _, found = two
    assert "the samples behind it: s020" in found[0]["blame"]
    assert found[0]["blame"] == found[1]["blame"]


def test_a_signal_to_one_process_ends_both_at_the_same_step(two):
    _, found = two
    assert found[0]["stop"] == found[1]["stop"] == [6, False]


def test_rows_that_are_lost_because_the_other_process_could_read_none_are_told(two):
    _, found = two
    samples, told = found[0]["left_out"]
    assert samples == found[1]["left_out"][0]
    assert told and all("4 others were lost" in text for text in told) and found[1]["left_out"][1] == []


def test_a_teacher_on_two_processes_equals_one(one, two):
    """In each batch the second process has no answer, and so no share of right ones, to report."""
    single, both = curve(one, "taught"), curve(two[0], "taught")
    assert [line["step"] for line in both] == [1, 2, 4]
    for left, right in zip(single, both):
        assert right.keys() == left.keys() >= {"right/vqa", "sure", "loss/teach"}
        for key in ("loss", "loss/teach", "right/vqa", "grad_norm"):
            assert right[key] == pytest.approx(left[key], rel=1e-5, abs=1e-6), key
    assert single[-1]["loss"] < 0.9 * single[0]["loss"]  # a run in which nothing moves would prove nothing
    ends = [torch.load(out / "taught.pt", weights_only=True)["weights"] for out in (one, two[0])]
    # a key's bias changes no output: AdamW makes steps of what is rounding in its gradient
    told = [key for key in ends[0] if not key.endswith("k_proj.bias")]
    for key in told:
        torch.testing.assert_close(ends[1][key], ends[0][key], rtol=0, atol=1e-5)
