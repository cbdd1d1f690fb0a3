"""The loop with the real family and the real loader, end to end."""

import json
import math

import pytest
import torch
from tiny_clip import colours, loader, tiny_clip

from diptych.training.config import TrainConfig
from diptych.training.loop import train

CONFIG = TrainConfig(epochs=15, lr=3e-3, precision="fp32", device="cpu", log_every=10, checkpoint_every=20)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return colours(tmp_path_factory.mktemp("colours") / "data")


def curve(out):
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("elapsed", "samples_per_second")} for line in found]


def test_a_tiny_clip_learns_colours_in_pieces_too_and_goes_on_where_it_stopped(data, tmp_path):
    models = [tiny_clip() for _ in range(3)]
    result = train(models[0], loader(data, models[0]), CONFIG, tmp_path / "whole", show="silent")
    assert result.finished
    assert result.warnings == []
    assert result.values["chance/loss/itc"] == pytest.approx(math.log(16))
    assert result.values["loss/itc"] < 0.5 * math.log(16)

    in_pieces = TrainConfig(**{**vars(CONFIG), "micro_batch": 6, "steps": 3})
    train(models[1], loader(data, models[1]), in_pieces, tmp_path / "pieces", show="silent")
    first = [curve(tmp_path / name)[0] for name in ("whole", "pieces")]
    assert first[1]["loss"] == pytest.approx(first[0]["loss"], rel=1e-5)
    assert first[1]["grad_norm"] == pytest.approx(first[0]["grad_norm"], rel=1e-4)

    class Stop(Exception):
        """Ends the run right after a checkpoint, as a crash would."""

    def crash(event):
        if event.kind == "log" and event.step == 50:
            raise Stop

    with pytest.raises(Stop):
        train(models[2], loader(data, models[2]), CONFIG, tmp_path / "broken", on_event=crash, show="silent")
    again = tiny_clip()
    train(again, loader(data, again), CONFIG, tmp_path / "broken", show="silent")
    assert curve(tmp_path / "broken") == curve(tmp_path / "whole")
    weights = models[0].state_dict()
    assert all(torch.equal(again.state_dict()[name], weights[name]) for name in weights)


def test_a_locked_tower_stays_bit_equal(data, tmp_path):
    model, before = tiny_clip(), tiny_clip().state_dict()
    config = TrainConfig(steps=5, lr=3e-3, groups=((r"^visual\.", None),), device="cpu")
    train(model, loader(data, model), config, tmp_path, show="silent")
    after = model.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("visual.")} <= same
    assert {"visual_projection.weight", "text_projection.weight", "head.logit_scale"}.isdisjoint(same)
