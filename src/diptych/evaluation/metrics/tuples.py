"""F1 of what is said: objects, attributes and relations as tuples, as in SPICE (Anderson et al. 2016, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diptych.types import InputError

Tuples = AbstractSet[tuple[str, ...]]


class TupleScore(NamedTuple):
    """Each between 0 and 1.

    Attributes:
        value: the mean F1 over N images.
        each: F1 of each image, N.
        precision: the share of each candidate's tuples that the reference has; 0 where the candidate has none.
        recall: the share of each reference's tuples that the candidate has; 0 where the reference has none.
    """

    value: float
    each: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def tuple_f1(candidate_tuples: Sequence[Tuples], reference_tuples: Sequence[Tuples]) -> TupleScore:
    """Compare what candidates say with what there is: (object), (object, attribute), (subject, relation, object).

    Where both say nothing F1 is 1 and so are precision and recall.

    Deviation: tuples match when they are equal; SPICE also takes synonyms and finds the tuples by parsing.

    Raises:
        InputError: no images, or not one set of tuples for each on both sides.
    """
    count = len(candidate_tuples)
    if count != len(reference_tuples) or not count:
        raise InputError(
            f"tuples: expected one set for each image on both sides, got {count} and {len(reference_tuples)}"
        )
    sizes = [(len(own & there), len(own), len(there)) for own, there in zip(candidate_tuples, reference_tuples)]
    shared, own, there = np.array(sizes, np.float64).T
    both_empty = own + there == 0
    precision = np.where(both_empty, 1.0, shared / np.maximum(own, 1))
    recall = np.where(both_empty, 1.0, shared / np.maximum(there, 1))
    each = np.where(both_empty, 1.0, 2 * shared / np.maximum(own + there, 1))
    return TupleScore(float(each.mean()), each, precision, recall)
