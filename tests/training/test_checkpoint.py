"""A checkpoint is whole or not there."""

import os
import shutil

import pytest
import torch

from diptych.training import checkpoint
from diptych.types import InputError


def state(value: float) -> dict:
    return {"model": {"w": torch.full((3,), value)}, "tally": {"step": 1, "sums": {"loss": value}}, "name": "x"}


def test_what_is_saved_is_loaded_and_old_ones_go(tmp_path):
    for step in (5, 10, 15):
        path = checkpoint.save(tmp_path / "c", step, state(step), {"w": torch.ones(2) * step}, keep=2)
        assert path.name == f"step-{step:08d}"
    assert [p.name for p in checkpoint.found(tmp_path / "c")] == ["step-00000010", "step-00000015"]
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["step-00000010", "step-00000015"]
    loaded, average = checkpoint.load(path)
    assert torch.equal(loaded["model"]["w"], torch.full((3,), 15.0))
    assert loaded["tally"] == {"step": 1, "sums": {"loss": 15}}
    assert torch.equal(average["w"], torch.full((2,), 15.0))
    assert checkpoint.load(checkpoint.save(tmp_path / "d", 1, state(1), None, keep=1))[1] is None


class Crash(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("moment", ["torch.save", "save_file", "os.replace", "shutil.rmtree"])
def test_a_crash_at_any_moment_leaves_a_whole_checkpoint(tmp_path, monkeypatch, moment):
    checkpoint.save(tmp_path, 1, state(1), {"w": torch.ones(1)}, keep=1)

    def crash(*arguments, **_):
        for half in (path for path in arguments if getattr(path, "name", "") in ("state.pt", "ema.safetensors")):
            half.write_bytes(b"half")
        raise Crash

    owners = {"torch.save": torch, "save_file": checkpoint, "os.replace": os, "shutil.rmtree": shutil}
    with monkeypatch.context() as patch:
        patch.setattr(owners[moment], moment.split(".")[-1], crash)
        with pytest.raises(Crash):
            checkpoint.save(tmp_path, 2, state(2), {"w": torch.ones(1)}, keep=1)
    assert len(list(tmp_path.iterdir())) == 2  # the crash did happen halfway
    newest = checkpoint.found(tmp_path)[-1]
    loaded, _ = checkpoint.load(newest)
    expected = 2 if moment == "shutil.rmtree" else 1  # the new one had its name before the old one was deleted
    assert torch.equal(loaded["model"]["w"], torch.full((3,), float(expected)))
    checkpoint.save(tmp_path, 3, state(3), None, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000003"]


def test_nothing_is_unpickled_and_damage_is_one_sentence(tmp_path):
    path = checkpoint.save(tmp_path, 1, {"evil": Crash}, None, keep=1)
    with pytest.raises(InputError, match=r"step-00000001: cannot be read as a checkpoint"):
        checkpoint.load(path)
    path = checkpoint.save(tmp_path, 2, state(2), None, keep=1)
    content = (path / "state.pt").read_bytes()
    (path / "state.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="delete its folder to go on from an earlier one"):
        checkpoint.load(path)
    assert checkpoint.found(tmp_path / "nothing") == []
