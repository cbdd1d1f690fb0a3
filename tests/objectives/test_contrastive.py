"""The contrastive losses against values worked out by hand, their gradients, and their value at chance."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.objectives.contrastive import sigmoid_chance, sigmoid_contrastive, softmax_chance, softmax_contrastive

EYE = torch.eye(2)
ONE = torch.tensor(1.0)


def _pairs(rows: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image, text = torch.randn(2, rows, width, generator=generator, dtype=dtype)
    return F.normalize(image, dim=-1), F.normalize(text, dim=-1)


def test_softmax_by_hand() -> None:
    # logits = 2 I, so each row has ln(e^2 + e^0) - 2
    loss = softmax_contrastive(EYE, EYE, torch.tensor(2.0))
    assert loss.item() == pytest.approx(math.log(math.exp(2) + 1) - 2, abs=1e-6)


def test_softmax_is_two_way() -> None:
    # image 0 = (1,0), image 1 = (1,0); texts (1,0), (0,1). logits [[1,0],[1,0]]: rows differ from columns
    image = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    rows = (2 * math.log(math.e + 1) - 1) / 2
    columns = math.log(2)
    assert softmax_contrastive(image, EYE, ONE).item() == pytest.approx((rows + columns) / 2, abs=1e-6)


def test_label_smoothing_by_hand() -> None:
    # with mass e = 0.1: (1 - e/2) on the true logit 1 and e/2 on the other logit 0
    expected = math.log(math.e + 1) - 0.95
    assert softmax_contrastive(EYE, EYE, ONE, label_smoothing=0.1).item() == pytest.approx(expected, abs=1e-6)


def test_extra_text_adds_columns_one_way_only() -> None:
    # a hard negative equal to text 0: image 0 sees logits (1, 0, 1), image 1 sees (0, 1, 0); the text side is unchanged
    loss = softmax_contrastive(EYE, EYE, ONE, extra_text=EYE[:1])
    first = math.log(2 * math.e + 1) - 1
    second = math.log(math.e + 2) - 1
    text_side = math.log(math.e + 1) - 1
    assert loss.item() == pytest.approx(((first + second) / 2 + text_side) / 2, abs=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 37])
def test_equal_logits_give_the_chance_value(batch: int) -> None:
    same = F.normalize(torch.ones(batch, 4), dim=-1)
    assert softmax_contrastive(same, same, torch.tensor(50.0)).item() == pytest.approx(softmax_chance(batch), abs=1e-5)
    assert softmax_chance(batch) == pytest.approx(math.log(batch))
    extra = softmax_contrastive(same, same, ONE, extra_text=same[:1])
    assert extra.item() == pytest.approx(softmax_chance(batch, extra=1), abs=1e-5)


def test_unrelated_rows_start_near_ln_batch() -> None:
    image, text = _pairs(256, 512)
    assert softmax_contrastive(image, text, torch.tensor(1 / 0.07)).item() == pytest.approx(math.log(256), rel=0.06)


def test_sigmoid_by_hand() -> None:
    # s = 10, b = -10: diagonal logits 0, others -10
    loss = sigmoid_contrastive(EYE, EYE, torch.tensor(10.0), torch.tensor(-10.0))
    expected = (2 * math.log(2) + 2 * math.log(1 + math.exp(-10))) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_sigmoid_at_the_papers_start() -> None:
    # unrelated rows: cosines near 0, so every diagonal entry costs softplus(10) and the rest almost nothing
    image, text = _pairs(64, 4096)
    loss = sigmoid_contrastive(image, text, torch.tensor(10.0), torch.tensor(-10.0))
    assert loss.item() == pytest.approx(10.0, abs=0.2)


def test_sigmoid_chance_is_the_best_constant() -> None:
    batch = 8
    same = F.normalize(torch.ones(batch, 3), dim=-1)
    values = {
        bias: sigmoid_contrastive(same, same, torch.tensor(0.0), torch.tensor(bias)).item()
        for bias in (-math.log(batch - 1), -math.log(batch - 1) + 0.1, -math.log(batch - 1) - 0.1)
    }
    best = values.pop(-math.log(batch - 1))
    assert best == pytest.approx(sigmoid_chance(batch), abs=1e-5)
    assert all(value > best for value in values.values())
    assert sigmoid_chance(1) == 0.0


def test_gradients_against_finite_differences() -> None:
    """In float64 (the losses compute in float32, so the reference is written out here and compared with autograd)."""
    image, text = _pairs(5, 3, dtype=torch.float64)
    leaves = [value.float().requires_grad_() for value in (image, text, torch.tensor(3.0))]
    softmax_contrastive(*leaves).backward()

    def reference(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        logits = scale * image @ text.t()
        return (2 * logits.diag() - logits.logsumexp(0) - logits.logsumexp(1)).mean() / -2

    doubles = [value.detach().double().requires_grad_() for value in leaves]
    assert torch.autograd.gradcheck(reference, doubles)
    reference(*doubles).backward()
    for ours, theirs in zip(leaves, doubles):
        torch.testing.assert_close(ours.grad, theirs.grad.float(), atol=1e-6, rtol=1e-5)


def test_sigmoid_gradient_against_the_written_out_sum() -> None:
    image, text = _pairs(4, 3)
    leaves = [value.requires_grad_() for value in (image, text, torch.tensor(2.0), torch.tensor(-1.0))]
    sigmoid_contrastive(*leaves).backward()
    doubles = [value.detach().double().requires_grad_() for value in leaves]
    x, y, scale, bias = doubles
    total = sum(
        torch.log1p(torch.exp(-(1 if i == j else -1) * (scale * x[i] @ y[j] + bias)))
        for i in range(4)
        for j in range(4)
    )
    (total / 4).backward()
    for ours, theirs in zip(leaves, doubles):
        torch.testing.assert_close(ours.grad, theirs.grad.float(), atol=1e-6, rtol=1e-5)


def test_loss_leaves_autocast() -> None:
    image, text = _pairs(16, 32)
    scale = torch.tensor(100.0)
    plain = softmax_contrastive(image, text, scale)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert softmax_contrastive(image, text, scale).item() == plain.item()


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_rows_of_each_process_average_to_the_whole(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pretended processes with some rows each and the columns of both: the mean over rows is the plain loss."""
    import diptych.objectives.contrastive as module

    image, text = _pairs(6, 4)

    def run(image: Tensor, text: Tensor) -> Tensor:
        if loss == "softmax":
            return softmax_contrastive(image, text, torch.tensor(5.0))
        return sigmoid_contrastive(image, text, torch.tensor(5.0), torch.tensor(-2.0))

    whole = run(image, text)
    parts, own = [slice(0, 4), slice(4, 6)], [slice(0, 4)]  # the last batch of an epoch may be shared unevenly
    monkeypatch.setattr(module, "world_size", lambda: 2)
    monkeypatch.setattr(module, "gather_with_grad", lambda rows: image if torch.equal(rows, image[own[0]]) else text)
    monkeypatch.setattr(module, "first_row", lambda rows: own[0].start)
    total = torch.zeros(())
    for own[0] in parts:
        total += run(image[own[0]], text[own[0]]) * (own[0].stop - own[0].start)
    torch.testing.assert_close(total / 6, whole)
