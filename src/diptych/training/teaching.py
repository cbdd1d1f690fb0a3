"""Learning from what another model makes of the same samples: knowledge distillation, and an averaged self as teacher.

A teacher sees each sample as its own processor prepares it, without augmentation (`Batch.view`). What it says is
compared with what the pupil says on the way to its own losses (`Losses.outputs`):

- "logits": of answers. T^2 KL(teacher || pupil) of the softmaxes at temperature T (Hinton et al. 2015, section 2), or
  at T = 0 the cross-entropy with the teacher's likeliest answer (Sohn et al. 2020, FixMatch, equation 4), both over
  the questions of which the teacher is sure enough. Where the two have other lists, what counts is the answers that
  both have, and the questions that the teacher answers with one of them.
- "features": 1 - cosine of the rows of pictures, and of texts where both models have them.
- "similarities": KL(teacher || pupil) of how alike each picture of the batch is to each text, both ways (Wu et al.
  2023, TinyCLIP, affinity mimicking), over all processes; the widths of the two models need not be the same.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.distributed import gather_with_grad
from diptych.training.config import TrainConfig
from diptych.training.ema import Average
from diptych.training.groups import evaluating
from diptych.types import Batch, InputError, Losses

SELF = "self"
"""The teacher that is the average of the pupil's own weights (Tarvainen and Valpola 2017)."""


class Taught:
    """The losses of a batch, for `training.train`: the pupil's own, and how far it is from a teacher.

    Rows whose label nobody knows cost the pupil nothing by themselves, and teach it all the same.

    Args:
        pupil: is trained in place.
        teacher: stays as it is; None: the average of the pupil's weights, which the loop provides (`average`).
        config: `teach`, `teach_weight`, `temperature` and `sure`.

    Raises `InputError` where the two have nothing in common to compare.
    """

    def __init__(self, pupil: nn.Module, teacher: nn.Module | None, config: TrainConfig) -> None:
        self.pupil, self.teacher, self.config = pupil, teacher, config
        self.average: Average | None = None
        self.columns: Tensor | None = None
        if config.teach == "logits":
            own = _answers(pupil, "pupil")
            self.columns = None if teacher is None else _shared(own, _answers(teacher, "teacher"))
        if teacher is not None:
            teacher.requires_grad_(False).eval()

    def __call__(self, batch: Batch) -> Losses:
        """Parts: the pupil's and "loss/teach". Stats: "sure", the share of questions that the teacher was sure of."""
        if batch.view is None:
            raise InputError("batch: view: expected what a teacher sees, got None")
        theirs = self._said(batch.view)
        losses: Losses = self.pupil(batch)
        distance, stats = self._distance(losses.outputs, theirs)
        return losses._replace(
            total=losses.total + self.config.teach_weight * distance,
            parts=losses.parts | {"loss/teach": distance.detach()},
            stats=losses.stats | stats,
        )

    @torch.no_grad()
    def _said(self, view: Batch) -> Mapping[str, Tensor]:
        if self.teacher is not None:
            device = view.tokens.device if view.tokens is not None else next(self.pupil.parameters()).device
            return self.teacher.to(device)(view).outputs  # type: ignore[no-any-return]
        with nullcontext() if self.average is None else self.average.applied(), evaluating(self.pupil):
            said = self.pupil(view).outputs
        torch.clear_autocast_cache()  # before torch 2.10 it holds weights cast without a gradient, and hands them out
        return said  # type: ignore[no-any-return]

    def _distance(
        self, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor | float]]:
        what, config = self.config.teach, self.config
        if what == "logits":
            if "answers" not in ours:  # a batch without questions
                return next(self.pupil.parameters()).new_zeros(()), {}
            own, wanted = ours["answers"].float(), theirs["answers"].float()
            known = theirs["sure"] >= config.sure
            if self.columns is not None:
                mine, its = self.columns.to(wanted.device)
                known &= torch.isin(wanted.argmax(dim=1), its)
                own, wanted = own[:, mine], wanted[:, its]
            return taught_answers(own, wanted, known, config.temperature), {"sure": known.float().mean()}
        needed = ("image",) if what == "features" else ("image", "text", "scale")
        if any(name not in said for said in (ours, theirs) for name in needed):
            raise InputError(f"training.teach: {what}: expected two models that place pictures (and texts) in a space")
        if what == "features":
            return taught_features(ours, theirs), {}
        return taught_similarities(ours, theirs), {}


def taught_answers(
    ours: Float[Tensor, "R K"], theirs: Float[Tensor, "R K"], known: Bool[Tensor, "R"], temperature: float
) -> Float[Tensor, ""]:
    """The distance, 0 in the rows that are not `known`.

    It is averaged over all rows, so that a teacher which is sure of few of them teaches little.
    """
    if temperature == 0:
        each = F.cross_entropy(ours, theirs.argmax(dim=1), reduction="none")
    else:
        wanted = (theirs / temperature).log_softmax(dim=1)
        own = (ours / temperature).log_softmax(dim=1)
        each = temperature**2 * F.kl_div(own, wanted, reduction="none", log_target=True).sum(dim=1)
    return (each * known).mean()


def taught_features(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """1 - cosine of unit rows, averaged over the sides that both have. Raises `InputError` for other widths."""
    found = []
    for side in ("image", "text"):
        if side in ours and side in theirs:
            own, wanted = ours[side].float(), theirs[side].float()
            if own.shape != wanted.shape:
                raise InputError(
                    f"training.teach: features: expected rows of width {wanted.shape[1]}, as the teacher's, got "
                    f"{own.shape[1]}; similarities can be taught at any width"
                )
            found.append((1 - (own * wanted).sum(dim=1)).mean())
    return torch.stack(found).mean()


def taught_similarities(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """The mean of both directions, each averaged over its rows; of the rows of all processes."""
    ours, theirs = (
        {name: gather_with_grad(said[name]) for name in ("image", "text")} | {"scale": said["scale"]}
        for said in (ours, theirs)
    )
    with torch.autocast(ours["image"].device.type, enabled=False):  # products of rows want more digits than bf16 has
        own, wanted = (
            said["scale"].float() * said["image"].float() @ said["text"].float().t() for said in (ours, theirs)
        )
    both = [
        F.kl_div(a.log_softmax(dim=1), b.log_softmax(dim=1), reduction="batchmean", log_target=True)
        for a, b in ((own, wanted), (own.t(), wanted.t()))
    ]
    return torch.stack(both).mean()


def _answers(model: Any, who: str) -> list[str]:
    answers = getattr(getattr(model, "processor", None), "answers", None)
    if not answers:
        raise InputError(f"training.teach: logits: expected a {who} that answers from a list")
    return list(answers)


def _shared(ours: list[str], theirs: list[str]) -> Tensor:
    """The places of the answers that both lists have: in ours, and in theirs."""
    number = {answer: i for i, answer in enumerate(theirs)}
    found = [(i, number[answer]) for i, answer in enumerate(ours) if answer in number]
    if len(found) < 2:
        raise InputError("training.teach: logits: expected lists with at least two answers in common")
    return torch.tensor(found).t()
