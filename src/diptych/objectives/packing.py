"""Several short texts in one row, so that little is computed for padding."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor


class Packed(NamedTuple):
    """Texts that share rows.

    Attributes:
        tokens: of several texts one after the other, padded on the right.
        text: the number of the text that each token belongs to, -1 at padding.
        positions: counted from the start of each text.
        target_mask: True at tokens that are to be predicted; never at the first of a text.
        shared: whether any row has two texts, so that it needs `masks.blocks(text)`.
    """

    tokens: Int[Tensor, "R S"]
    text: Int[Tensor, "R S"]
    positions: Int[Tensor, "R S"]
    target_mask: Bool[Tensor, "R S"]
    shared: bool


def pack(
    tokens: Int[Tensor, "B T"],
    keep: Bool[Tensor, "B T"],
    target_mask: Bool[Tensor, "B T"] | None = None,
    length: int | None = None,
) -> Packed:
    """Texts, each kept from its first column on, in as few rows as first-fit finds, the longest first.

    A text stays whole. Each comes out as if it stood alone, because it sees and counts itself only. Where little would
    be saved (less than a fifth) every text keeps its row, which spares the mask.

    Args:
        target_mask: True at tokens that are to be predicted; all but the first if None.
        length: of a row in tokens, at least that of the longest text; by default just that.
    """
    lengths = keep.sum(dim=1).tolist()
    longest = max(lengths, default=0)
    room = max(length or longest, longest)
    rows = _first_fit(lengths, room)
    width = max((sum(lengths[text] for text in row) for row in rows), default=0)
    if len(rows) * width > 0.8 * len(lengths) * longest:
        rows, width = [[text] for text in range(len(lengths))], longest
    order = np.zeros((len(rows), width), np.int64)  # text * T + column of each place
    number = np.full((len(rows), width), -1, np.int64)
    place = np.zeros((len(rows), width), np.int64)
    for row, texts in enumerate(rows):
        start = 0
        for text in texts:
            end = start + lengths[text]
            place[row, start:end] = np.arange(lengths[text])
            order[row, start:end] = text * tokens.shape[1] + place[row, start:end]
            number[row, start:end] = text
            start = end
    source, numbers, positions = (torch.from_numpy(array).to(tokens.device) for array in (order, number, place))
    wanted = keep if target_mask is None else target_mask & keep
    wanted = wanted.flatten()[source] & (numbers >= 0) & (positions > 0)
    return Packed(tokens.flatten()[source], numbers, positions, wanted, len(rows) < len(lengths))


def _first_fit(lengths: list[int], room: int) -> list[list[int]]:
    """Rows of texts (first-fit decreasing), none fuller than `room`."""
    rows: list[list[int]] = []
    left: list[int] = []
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        row = next((row for row, free in enumerate(left) if free >= lengths[text]), len(rows))
        if row == len(rows):
            rows.append([])
            left.append(room)
        rows[row].append(text)
        left[row] -= lengths[text]
    return rows
