"""A two-tower model and a loader small enough to be followed by hand, for the tests of the loop."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diptych.distributed import first_row, gather_with_grad
from diptych.types import Batch, Losses, Rejected

WIDTH, VOCABULARY, LENGTH = 6, 11, 4


class Toy(nn.Module):
    """Two towers and a symmetric softmax loss over all processes' pairs. `TwoStage`."""

    def __init__(self, seed: int = 0, dropout: float = 0.0, scale: float = 3.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.image = nn.Sequential(nn.Linear(WIDTH, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 8))
            self.text = nn.Sequential(nn.Embedding(VOCABULARY, 12), nn.Dropout(dropout), nn.Linear(12, 8))
            self.unused = nn.Linear(3, 3)  # like the pooler of a pretrained tower
        self.scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.register_buffer("seen", torch.zeros(()))

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        assert batch.image_features is not None and batch.tokens is not None
        if self.training:
            self.seen += len(batch)
        image = self.image(batch.image_features)
        text = self.text(batch.tokens).mean(dim=1)
        return F.normalize(image, dim=-1), F.normalize(text, dim=-1)

    def objective(self, image: Tensor, text: Tensor) -> Losses:
        every_image, every_text = gather_with_grad(image), gather_with_grad(text)
        labels = first_row(len(image)) + torch.arange(len(image))
        rows = self.scale.exp() * image @ every_text.t()
        columns = self.scale.exp() * text @ every_image.t()
        loss = (F.cross_entropy(rows, labels) + F.cross_entropy(columns, labels)) / 2
        return Losses(
            total=loss,
            parts={"loss/itc": loss.detach()},
            chance={"loss/itc": math.log(len(every_text))},
            stats={"logit_scale": self.scale.exp().detach(), "logit_scale_at_clamp": 0.0},
        )

    def forward(self, batch: Batch) -> Losses:
        return self.objective(*self.encode(batch))


class Regressor(nn.Module):
    """A model that looks at one sample at a time. Not `TwoStage`."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.line = nn.Linear(WIDTH, 1)

    def forward(self, batch: Batch) -> Losses:
        assert batch.image_features is not None and batch.tokens is not None
        loss = (self.line(batch.image_features)[:, 0] - batch.tokens[:, 0]).square().mean()
        return Losses(total=loss, parts={"loss/l2": loss.detach()}, stats={"samples": float(len(batch))})


class Worded(Regressor):
    """A loss that is a mean over some tokens, of which rows have none to all."""

    def forward(self, batch: Batch) -> Losses:
        assert batch.image_features is not None and batch.tokens is not None
        asked = batch.tokens < 5
        loss = (self.line(batch.image_features) - batch.tokens)[asked].square().sum() / asked.sum().clamp(min=1)
        return Losses(total=loss, parts={"loss/words": loss.detach()}, terms=asked.sum())


def pairs(count: int, seed: int = 0, start: int = 0) -> Batch:
    """Pairs whose image is a fixed function of its tokens and some noise, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(VOCABULARY, (count, LENGTH), generator=generator)
    mix = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(1))
    features = mix[tokens].mean(dim=1) + 0.1 * torch.randn(count, WIDTH, generator=generator)
    ids = [f"s{start + i:03d}" for i in range(count)]
    return Batch(ids=ids, image_features=features, tokens=tokens, token_mask=torch.ones_like(tokens).bool())


@dataclass
class ToyLoader:
    """`samples` pairs in an order that depends on the epoch only; this process gets its slice of each global batch.

    Args:
        kill_at: number of the batch, counted from the start of the process, at which the process kills itself.
        stop_at: the same, for SIGTERM.
        lost: ids that cannot be read.
    """

    samples: int = 48
    batch_size: int = 8
    rank: int = 0
    world: int = 1
    kill_at: int | None = None
    stop_at: int | None = None
    lost: tuple[str, ...] = ()
    rejected: list[Rejected] = field(default_factory=list)
    given: int = 0
    data: Batch | None = None

    def __len__(self) -> int:
        return self.samples // self.batch_size

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        data = self.data or pairs(self.samples)
        order = torch.randperm(self.samples, generator=torch.Generator().manual_seed(number))
        share = self.batch_size // self.world
        for index in range(start, len(self)):
            if self.given == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.given == self.stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            self.given += 1
            first = index * self.batch_size + self.rank * share
            yield self._take(data, order[first : first + share])

    def _take(self, data: Batch, rows: Tensor) -> Batch:
        fine = [int(i) for i in rows if data.ids[int(i)] not in self.lost]
        self.rejected += [Rejected(data.ids[int(i)], "image truncated") for i in rows if int(i) not in fine]
        chosen = torch.tensor(fine, dtype=torch.long)
        assert data.image_features is not None and data.tokens is not None and data.token_mask is not None
        return Batch(
            ids=[data.ids[i] for i in fine],
            image_features=data.image_features[chosen],
            tokens=data.tokens[chosen],
            token_mask=data.token_mask[chosen],
        )
