"""Next-token losses: cross-entropy over a vocabulary whose logits never stand whole in memory."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CHUNK = 512  # tokens whose logits stand in memory at once: 100 MB at 49,152 words


def next_token(
    hidden: Float[Tensor, "B T D"],
    weight: Float[Tensor, "V D"],
    tokens: Int[Tensor, "B T"],
    target_mask: Bool[Tensor, "B T"],
    *,
    chunk: int = CHUNK,
) -> Float[Tensor, ""]:
    """The mean of -ln p(token | what comes before it) over the tokens that `target_mask` marks.

    Args:
        hidden: the state at each token; the state at t - 1 predicts token t, so the first token is never a target.
        weight: the output matrix: logits = hidden weight^T.
        tokens: what is read.
        target_mask: True at tokens to be predicted.
        chunk: tokens whose logits stand in memory at once.

    Returns: nats a token; 0 where nothing is marked. Guessing gives `next_token_chance`.
    """
    marked = target_mask[:, 1:]
    return cross_entropy(hidden[:, :-1][marked], weight, tokens[:, 1:][marked], chunk=chunk)


def next_token_chance(vocab_size: int) -> float:
    """The loss of a model that knows nothing: ln V."""
    return math.log(vocab_size)


def cross_entropy(
    hidden: Float[Tensor, "N D"], weight: Float[Tensor, "V D"], targets: Int[Tensor, "N"], *, chunk: int = CHUNK
) -> Float[Tensor, ""]:
    """Mean of -ln softmax(hidden weight^T)[target], `chunk` rows at a time; 0 without rows.

    The gradient is formed beside the loss, chunk by chunk, so that logits are computed once and never kept.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        loss: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, targets, chunk)  # type: ignore[no-untyped-call]
        return loss
    wide = torch.promote_types(hidden.dtype, torch.float32)
    total = hidden.new_zeros((), dtype=wide)
    for start in range(0, len(hidden), chunk):
        logits = (hidden[start : start + chunk] @ weight.t()).to(wide)
        total += torch.nn.functional.cross_entropy(logits, targets[start : start + chunk], reduction="sum")
    return total / max(len(hidden), 1)


def contrastive_search_loss(
    hidden: Float[Tensor, "B T D"], text: Int[Tensor, "B T"], *, margin: float = 0.5
) -> Float[Tensor, ""]:
    """SimCTG's loss: a token's state is to be like itself and unlike those of its text's other tokens.

    The mean over pairs i != j of max(0, margin - s(i, i) + s(i, j)) with the cosine s, so s(i, i) = 1, first over the
    pairs of a text and then over texts (Su et al. 2022, equation 2); in [0, margin + 1].

    Args:
        hidden: the last states.
        text: the number of the text that each token belongs to, from 0, negative at padding.
    """
    rows = torch.nn.functional.normalize(hidden.float(), dim=-1)
    with torch.autocast(hidden.device.type, enabled=False):
        gaps = (margin - 1 + rows @ rows.mT).relu()
    same = (text[:, :, None] == text[:, None]) & (text >= 0)[:, :, None]
    same = same & ~torch.eye(text.shape[1], dtype=torch.bool, device=text.device)
    of = text.clamp(min=0).flatten()
    count = int(of.max()) + 1 if len(of) else 1
    totals = gaps.new_zeros(count).index_add(0, of, gaps.masked_fill(~same, 0).sum(dim=2).flatten())
    pairs = gaps.new_zeros(count).index_add(0, of, same.sum(dim=2).flatten().to(gaps.dtype))
    return (totals / pairs.clamp(min=1)).sum() / (pairs > 0).sum().clamp(min=1)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """d loss / d logits = (softmax - onehot) / N, so that both gradients are one more product each."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
        count = max(len(hidden), 1)
        wide = torch.promote_types(hidden.dtype, torch.float32)
        total = hidden.new_zeros((), dtype=wide)
        to_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        to_weight = torch.zeros_like(weight, dtype=wide) if ctx.needs_input_grad[1] else None
        for start in range(0, len(hidden), chunk):
            rows, wanted = hidden[start : start + chunk], targets[start : start + chunk, None]
            logits = (rows @ weight.t()).to(wide)
            log_norm = logits.logsumexp(dim=1, keepdim=True)
            total += (log_norm - logits.gather(1, wanted)).sum()
            grad = logits.sub_(log_norm).exp_()
            grad.scatter_add_(1, wanted, torch.full_like(log_norm, -1.0))
            grad = grad.mul_(1 / count).to(hidden.dtype)
            if to_hidden is not None:
                torch.mm(grad, weight, out=to_hidden[start : start + chunk])
            if to_weight is not None and rows.dtype == to_weight.dtype:
                to_weight.addmm_(grad.t(), rows)
            elif to_weight is not None:
                to_weight += grad.t() @ rows
        ctx.save_for_backward(to_hidden, None if to_weight is None else to_weight.to(weight.dtype))
        return total / count

    @staticmethod
    def backward(ctx: Any, pulled: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        to_hidden, to_weight = ctx.saved_tensors
        scaled = [
            None if grad is None else (grad.to(pulled.dtype) * pulled).to(grad.dtype) for grad in (to_hidden, to_weight)
        ]
        return scaled[0], scaled[1], None, None
