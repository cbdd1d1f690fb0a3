"""A model that writes captions, trained on the reward of what it writes (Rennie et al. 2017)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.data.store import STREAMED, Dataset
from diptych.decoding import Written, write
from diptych.objectives.self_critical import self_critical
from diptych.training.groups import evaluating
from diptych.types import Batch, InputError, Losses

Reward = Callable[[Sequence[str], Sequence[Sequence[str]]], Any]
"""What each caption is worth beside the references of its picture: an array of floats."""


@runtime_checkable
class ScoresText(Protocol):
    """A family whose states at a given text can be asked for, with gradient."""

    lm: Any

    def states(self, batch: Batch) -> Float[Tensor, "B T D"]: ...


class SelfCritical:
    """The losses of a batch, for `training.train`: two captions are written for each picture and compared.

    One is drawn from the model, one written greedily; `objectives.self_critical` makes the first likelier where it is
    worth more. Both are written without gradient; the drawn one is then read again with gradient. All is done in eval
    mode, so that the likelihoods are those by which it was drawn; running averages of batch norms stay as they are. The
    paper starts from a model that was trained on captions first. The model is trained in place.

    Args:
        model: with `states` and `read`, e.g. VisualGPT.
        reward: e.g. `evaluation.reward.cider_reward(...)`.
        references: by sample id, the captions of its picture; see `references_of`.
        most: tokens of a caption, the end token included.
    """

    def __init__(
        self, model: nn.Module, reward: Reward, references: Mapping[str, Sequence[str]], *, most: int = 32
    ) -> None:
        if not isinstance(model, ScoresText):
            raise InputError(f"{type(model).__name__}: expected a model with `states`, such as visualgpt")
        self.model: Any = model
        self.reward = reward
        self.references = references
        self.most = most

    def __call__(self, batch: Batch) -> Losses:
        """Parts: "loss/scst". Stats: the mean rewards "reward/drawn" and "reward/greedy"."""
        assert batch.pixels is not None
        with torch.no_grad(), evaluating(self.model):
            greedy = self._write(batch.pixels)
            drawn = self._write(batch.pixels, draw)
        torch.clear_autocast_cache()  # before torch 2.10 it holds weights cast without a gradient, and hands them out
        references = [self.references[name] for name in batch.ids]
        worth = [self._worth(texts, references).to(batch.pixels.device) for texts in (drawn, greedy)]
        tokens, mask = self._rows(drawn)
        tokens, mask = tokens.to(batch.pixels.device), mask.to(batch.pixels.device)
        with evaluating(self.model):
            states = self.model.states(Batch(batch.ids, batch.pixels, tokens=tokens, token_mask=mask))
        log_probs = self.model.lm.logits(states[:, :-1]).float().log_softmax(dim=-1)
        log_probs = log_probs.gather(2, tokens[:, 1:, None])[..., 0]
        loss = self_critical(log_probs, mask[:, 1:], *worth)
        stats: dict[str, Tensor | float] = {"reward/drawn": worth[0].mean(), "reward/greedy": worth[1].mean()}
        return Losses(loss, {"loss/scst": loss.detach()}, {}, stats)

    def _write(self, pixels: Tensor, rule: Any = None) -> list[Written]:
        words = self.model.processor.text
        pictures = [[picture] for picture in pixels.permute(0, 2, 3, 1).cpu().numpy()]
        source = self.model.read(pictures, words.prompts([""] * len(pixels)))
        rules = {} if rule is None else {"rule": rule}
        return write(source, end=words.eos_id, most=self.most, **rules)

    def _worth(self, texts: Sequence[Written], references: Sequence[Sequence[str]]) -> Tensor:
        said = [self.model.processor.text.decode(text.tokens) for text in texts]
        return torch.as_tensor(self.reward(said, references), dtype=torch.float32)

    def _rows(self, texts: Sequence[Written]) -> tuple[Tensor, Tensor]:
        """(tokens, mask) of texts with the start token, and the end token where it was written."""
        words = self.model.processor.text
        tokens, mask = words.padded(
            [[words.bos_id, *text.tokens, *([words.eos_id] if text.ended else [])] for text in texts]
        )
        return tokens, mask


def draw(log_probs: Float[Tensor, "R V"], texts: Sequence[int], step: int) -> Tensor:
    """A token of each row, drawn from torch's random state, which the loop seeds for every step."""
    return torch.multinomial(log_probs.exp(), 1)[:, 0]


def references_of(dataset: Dataset) -> dict[str, list[str]]:
    """The captions of each sample, by its id."""
    found = {}
    for start in range(0, len(dataset), STREAMED):
        for sample in dataset.take(range(start, min(start + STREAMED, len(dataset))), fields=("captions",)):
            found[sample.id] = sample.captions
    return found
