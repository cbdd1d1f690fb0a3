"""What one run does and leaves behind."""

import json
import math
import signal

import pytest
import torch
from toy_training import Regressor, Toy, ToyLoader, pairs

from diptych.training.config import TrainConfig
from diptych.training.groups import frozen_hashes
from diptych.training.loop import train
from diptych.training.watch import NonFiniteLoss
from diptych.types import InputError, Losses

BASE = {"precision": "fp32", "device": "cpu", "log_every": 5}


def lines(out, kind="train"):
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def test_a_toy_learns_and_the_run_folder_tells_it(tmp_path):
    model, events = Toy(), []
    config = TrainConfig(steps=60, lr=0.02, checkpoint_every=20, evaluate_every=30, **BASE)
    result = train(
        model,
        ToyLoader(),
        config,
        tmp_path / "run",
        run={"family": "toy"},
        evaluate=lambda step: {"retrieval/i2t_r@1": step / 100},
        on_event=events.append,
        show="silent",
    )
    assert result.finished
    assert (result.steps, result.samples, result.skipped, result.warnings) == (60, 480, 0, [])
    assert result.values["loss"] < 0.5 * math.log(8)
    assert not model.training

    train_lines = lines(result.folder)
    assert [line["step"] for line in train_lines] == [1, *range(5, 61, 5)]
    assert train_lines[0]["loss"] == pytest.approx(Toy().forward(next(ToyLoader().epoch(0))).total.item(), rel=1e-5)
    assert train_lines[-1]["loss/itc"] == result.values["loss/itc"]
    assert train_lines[-1]["chance/loss/itc"] == pytest.approx(math.log(8))
    wanted = {"samples", "lr", "grad_norm", "samples_per_second", "elapsed", "logit_scale", "epoch", "skipped"}
    assert wanted <= set(train_lines[-1])
    assert max(line["lr"] for line in train_lines) > 10 * train_lines[-1]["lr"] > 0
    assert [(line["step"], line["retrieval/i2t_r@1"]) for line in lines(result.folder, "evaluate")] == [
        (30, 0.3),
        (60, 0.6),
    ]

    config_file = json.loads((result.folder / "config.json").read_text())
    assert config_file["family"] == "toy"
    assert config_file["train"]["steps"] == 60
    environment = json.loads((result.folder / "environment.json").read_text())
    assert environment["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert environment["precision"] == "fp32"
    assert environment["cores"] >= 1
    assert list((result.folder / "tensorboard").glob("events*"))

    kinds = [event.kind for event in events]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    assert [e.folder.name for e in events if e.kind == "checkpoint"] == [f"step-{n:08d}" for n in (20, 40, 60)]
    notes = [event.text for event in events if event.kind == "note"]
    assert "all others: lr 0.02, 10 tensors, 497 weights in scale, image, text, unused" in notes


def test_the_random_numbers_of_the_caller_are_left_alone(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    train(Toy(dropout=0.1), ToyLoader(), TrainConfig(steps=3, **BASE), tmp_path, show="silent")
    assert torch.equal(torch.rand(4), expected)


def test_frozen_weights_are_bit_equal_and_the_others_moved(tmp_path):
    model, before = Toy(), Toy().state_dict()
    config = TrainConfig(steps=10, lr=0.05, groups=(("^image", None), ("^text.0", 0.001)), **BASE)
    train(model, ToyLoader(), config, tmp_path, show="silent")
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("image"))
    assert not torch.equal(after["text.0.weight"], before["text.0.weight"])
    assert not torch.equal(after["scale"], before["scale"])
    assert all(parameter.requires_grad for parameter in model.parameters())
    saved = torch.load(sorted((tmp_path / "checkpoints").iterdir())[-1] / "state.pt", weights_only=True)
    assert not [name for name in saved["model"] if name.startswith("image")]
    model.image.requires_grad_(False)
    assert {n: h for n, h in frozen_hashes(model).items() if n.startswith("image")} == saved["frozen"]


def test_a_run_for_minutes_ends_by_the_clock(tmp_path):
    result = train(Toy(), ToyLoader(), TrainConfig(minutes=0.005, **BASE), tmp_path, show="silent")
    assert result.finished
    assert result.steps >= 1
    assert 0.3 <= result.elapsed < 30


def test_averaged_weights_follow_their_formula_and_are_evaluated_beside(tmp_path):
    model, seen = Toy(), []

    def evaluate(step):
        assert not model.training
        seen.append(model.scale.item())
        return {"scale": model.scale.item()}

    config = TrainConfig(steps=4, lr=0.05, ema=0.5, evaluate_every=1, **BASE)
    result = train(model, ToyLoader(), config, tmp_path, evaluate=evaluate, show="silent")
    average = Toy().scale.item()
    for step, weight in enumerate(seen[::2], 1):
        average += (1 - min(0.5, (1 + step) / (10 + step))) * (weight - average)
        assert seen[2 * step - 1] == pytest.approx(average, abs=1e-6)
    assert result.ema["scale"].item() == pytest.approx(average, abs=1e-6)
    assert model.scale.item() == seen[-2]  # the model keeps its own weights
    last = lines(tmp_path, "evaluate")[-1]
    assert last["scale"] == seen[-2]
    assert last["ema/scale"] == seen[-1]
    assert (tmp_path / "checkpoints" / "step-00000004" / "ema.safetensors").exists()


def test_nothing_learnt_is_said(tmp_path):
    loader = ToyLoader()
    loader.data = pairs(48)
    loader.data.tokens = loader.data.tokens[torch.arange(48) % 4]  # four captions for all pictures
    result = train(Toy(scale=1e-4), loader, TrainConfig(steps=60, lr=1e-6, **BASE), tmp_path, show="silent")
    assert len(result.warnings) == 2
    assert any("nothing is learnt: loss/itc is 2.079, and guessing gives 2.079" in text for text in result.warnings)
    assert any("of the captions in a batch repeat another one" in text for text in result.warnings)
    assert [line["text"] for line in lines(tmp_path, "warning")] == result.warnings


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_sample(tmp_path):
    loader = ToyLoader()
    loader.data = pairs(48)
    bad = next(iter(loader.epoch(0, start=3))).ids[5]
    loader.data.image_features[loader.data.ids.index(bad)] = math.nan
    model = Toy()
    with pytest.raises(
        NonFiniteLoss, match=rf"step 4: .*the samples behind it: {bad} \(last checkpoint: step-00000002"
    ):
        train(model, loader, TrainConfig(steps=60, checkpoint_every=2, **BASE), tmp_path, show="silent")
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_a_gradient_that_is_not_finite_is_skipped_and_said(tmp_path):
    class Root(Regressor):
        def forward(self, batch):
            at_zero = (self.line.weight.sum() * 0).sqrt()  # infinite slope, finite value
            losses = super().forward(batch)
            return Losses(losses.total + at_zero, losses.parts)

    model, before = Root(), Root().state_dict()
    result = train(model, ToyLoader(), TrainConfig(steps=12, **BASE), tmp_path, show="silent")
    assert result.skipped == 12
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    assert any("100% of the steps are skipped" in text for text in result.warnings)
    assert lines(tmp_path)[-1]["grad_norm"] is None


def test_the_gradient_is_clipped(tmp_path):
    norms = []
    for clip in (None, 1e-3):
        model = Regressor()
        config = TrainConfig(steps=1, lr=0.01, clip=clip, warmup=0, **BASE)
        train(model, ToyLoader(), config, tmp_path / str(clip), show="silent")
        saved = torch.load(tmp_path / str(clip) / "checkpoints" / "step-00000001" / "state.pt", weights_only=True)
        moments = [entry["exp_avg"] for entry in saved["optimizer"]["state"].values()]
        norms.append(math.sqrt(sum(float(m.square().sum()) for m in moments)) / (1 - 0.9))
    assert norms[0] > 1
    assert norms[1] == pytest.approx(1e-3, rel=1e-3)


def test_unreadable_rows_are_counted_and_an_unreadable_epoch_ends_the_run(tmp_path):
    loader = ToyLoader(lost=("s001", "s030"))
    result = train(Toy(), loader, TrainConfig(epochs=1, **BASE), tmp_path / "a", show="silent")
    assert result.samples == 46
    assert sorted(row.id for row in result.rejected) == ["s001", "s030"]
    loader = ToyLoader(lost=tuple(f"s{i:03d}" for i in range(48)))
    with pytest.raises(InputError, match="no sample of a whole epoch could be read: image truncated"):
        train(Toy(), loader, TrainConfig(epochs=1, **BASE), tmp_path / "b", show="silent")


def test_a_stop_signal_saves_and_returns_and_handlers_come_back(tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    config = TrainConfig(steps=20, **BASE)
    result = train(Toy(), ToyLoader(stop_at=6), config, tmp_path, show="silent")
    assert not result.finished
    assert result.steps == 7
    assert (tmp_path / "checkpoints" / "step-00000007").is_dir()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert train(Toy(), ToyLoader(), config, tmp_path, show="silent").steps == 20


def test_a_stop_signal_is_heard_at_a_batch_of_which_nothing_can_be_read(tmp_path):
    order = torch.randperm(48, generator=torch.Generator().manual_seed(0))
    third = tuple(f"s{int(i):03d}" for i in order[16:24])
    config = TrainConfig(epochs=1, **BASE)
    result = train(Toy(), ToyLoader(stop_at=2, lost=third), config, tmp_path, show="silent")
    assert not result.finished and result.steps == 2 and len(result.rejected) == 8
    rest = train(Toy(), ToyLoader(lost=third), config, tmp_path, show="silent")
    assert rest.finished and rest.steps == 6


def test_a_finished_run_is_not_run_again(tmp_path):
    config = TrainConfig(steps=6, **BASE)
    first = train(Toy(), ToyLoader(), config, tmp_path, show="silent")
    loader, model = ToyLoader(), Toy(seed=9)
    again = train(model, loader, config, tmp_path, show="silent")
    assert loader.given == 0
    assert again.finished
    assert (again.steps, again.values) == (first.steps, first.values)
    assert not torch.equal(model.scale, Toy(seed=9).scale)  # the trained weights were put back


def test_another_config_or_other_data_is_not_resumed(tmp_path):
    def go(run=None, model=None, resume=True, **changes):
        config = TrainConfig(**(BASE | {"steps": 6, "groups": (("^image", None),)} | changes))
        return train(
            model or Toy(), ToyLoader(), config, tmp_path, run=run or {"data": "abc"}, resume=resume, show="silent"
        )

    go()
    with pytest.raises(InputError, match=r"config.json: cannot resume: train.lr was 0.001 and is now 0.5"):
        go(lr=0.5)
    with pytest.raises(InputError, match="cannot resume: data was 'abc' and is now 'xyz'"):
        go(run={"data": "xyz"})
    with pytest.raises(InputError, match="the frozen weights are not those"):
        go(model=Toy(seed=8))
    with pytest.raises(InputError, match="expected a folder without a run"):
        go(resume=False)
    assert go(keep=5).steps == 6
