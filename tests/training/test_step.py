"""A step in pieces equals the plain step, in value and gradient."""

import math

import pytest
import torch
from torch import nn
from toy_training import Regressor, Toy, Worded, pairs

from diptych.training.config import TrainConfig
from diptych.training.step import Stepper, numbers, offenders
from diptych.types import Losses

CPU = torch.device("cpu")


def gradients(model, batch, **options):
    config = TrainConfig(steps=1, precision="fp32", **options)
    model.train()
    values = Stepper(model, config, CPU)(batch, step=3, sizes=[len(batch)])
    return values, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro", [1, 3, 5, 7])
@pytest.mark.parametrize("kind", [Toy, Regressor, Worded])
def test_accumulation_equals_the_plain_step(kind, micro):
    batch = pairs(11)
    plain_values, plain = gradients(kind(), batch)
    values, pieces = gradients(kind(), batch, micro_batch=micro)
    assert plain.keys() == pieces.keys()
    assert len(plain) >= 2
    for name, gradient in plain.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(pieces[name], gradient, rtol=1e-5, atol=1e-6)
    assert values["loss"] == pytest.approx(plain_values["loss"], rel=1e-6)
    if kind is Toy:  # the objective saw the whole batch, and the temperature, which only it uses, got its gradient
        assert values["chance/loss/itc"] == pytest.approx(math.log(11))
        assert "scale" in pieces


def test_a_large_enough_micro_batch_is_the_plain_step_bit_by_bit():
    batch = pairs(11)
    _, plain = gradients(Toy(dropout=0.3), batch)
    _, same = gradients(Toy(dropout=0.3), batch, micro_batch=11)
    assert all(torch.equal(plain[name], same[name]) for name in plain)


def test_dropout_is_the_same_in_both_encodings():
    """The reference encodes the same pieces with the same random numbers in one graph, and needs no cache."""
    batch, model = pairs(8), Toy(dropout=0.4)
    values, found = gradients(model, batch, micro_batch=3, seed=5)
    reference = Toy(dropout=0.4).train()
    stepper = Stepper(reference, TrainConfig(steps=1, precision="fp32", seed=5), CPU)
    encoded = []
    for piece, part in enumerate(batch.chunks(3)):
        with stepper._scene(3, piece):
            encoded.append(reference.encode(part))
    losses = reference.objective(*(torch.cat(column) for column in zip(*encoded)))
    losses.total.backward()
    assert values["loss"] == pytest.approx(losses.total.item(), abs=1e-6)
    for name, parameter in reference.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=1e-6)
    _, other = gradients(Toy(dropout=0.4), batch, micro_batch=3, seed=6)
    assert not torch.allclose(other["image.0.weight"], found["image.0.weight"])


def test_buffers_count_every_sample_once():
    model = Toy()
    gradients(model, pairs(11), micro_batch=4)
    assert model.seen == 11


def test_a_locked_side_and_whole_numbers_among_the_features_do_no_harm():
    class Locked(Toy):
        def encode(self, batch):
            image, text = super().encode(batch)
            return image.detach(), text, batch.tokens[:, 0]

        def objective(self, image, text, first):
            assert len(first) == len(image)
            return super().objective(image, text)

    batch = pairs(8)
    _, plain = gradients(Locked(), batch)
    _, pieces = gradients(Locked(), batch, micro_batch=3)
    assert plain.keys() == pieces.keys()
    assert "image.0.weight" not in plain
    for name, gradient in plain.items():
        torch.testing.assert_close(pieces[name], gradient, rtol=1e-5, atol=1e-6)


def test_numbers_are_plain_and_complete():
    losses = Losses(torch.tensor(2.0), {"loss/a": torch.tensor(1.5)}, {"loss/a": 1.7}, {"x": 3, "y": torch.tensor(4)})
    found = numbers(losses)
    assert found == {"loss": 2.0, "loss/a": 1.5, "chance/loss/a": 1.7, "x": 3.0, "y": 4.0}
    assert all(type(value) is float for value in found.values())


class TestOffenders:
    config = TrainConfig(steps=1, precision="fp32")

    def test_an_input_that_is_not_finite(self):
        batch = pairs(9)
        batch.image_features[2, 0] = math.nan
        batch.image_features[7, 5] = math.inf
        assert offenders(Toy(), batch, CPU, self.config) == ["s002", "s007"]

    @pytest.mark.parametrize("kind", [Toy, Regressor])
    def test_a_finite_input_that_overflows_inside(self, kind):
        batch = pairs(9)
        batch.image_features[4] = 3e38
        model = kind().train()
        assert offenders(model, batch, CPU, self.config) == ["s004"]
        assert all(module.training for module in model.modules())

    def test_a_token_with_a_broken_embedding(self):
        batch, model = pairs(40), Toy()
        with torch.no_grad():
            model.text[0].weight[7] = math.nan
        guilty = [name for name, row in zip(batch.ids, batch.tokens) if 7 in row]
        assert 0 < len(guilty) < 40
        assert offenders(model, batch, CPU, self.config) == guilty

    def test_diverged_weights_blame_every_sample_and_a_broken_objective_none(self):
        model = Toy()
        nn.init.constant_(model.image[0].bias, math.nan)
        assert len(offenders(model, pairs(5), CPU, self.config)) == 5
        model = Toy()
        nn.init.constant_(model.scale, math.nan)
        assert offenders(model, pairs(5), CPU, self.config) == []
