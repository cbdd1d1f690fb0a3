"""The ready-made model with its real weights: slow, and skipped where they cannot be had."""

import numpy as np
import pytest

import diptych
from diptych import pocket
from diptych.evaluation.retrieve import evaluate_retrieval
from diptych.towers import WeightsUnavailable


@pytest.mark.slow
def test_pocket_beats_chance_twenty_times_on_unseen_creators():
    """At rank 1, on the split that the demo uses."""
    curated = pocket.curated_clipart()
    part, held_out = curated.split(0.15, by="creator", seed=5)
    try:
        model = pocket.build(part)
    except WeightsUnavailable as error:
        pytest.skip(str(error))
    assert model.num_pairs == len(part) + 1000
    estimates = evaluate_retrieval(model, held_out).estimates
    for name in ("retrieval/i2t_r@1", "retrieval/t2i_r@1"):
        assert estimates[name].value > 20 * (estimates[name].chance or 1)
    rows = diptych.embed_texts(model, ["a dog", "a car"])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
