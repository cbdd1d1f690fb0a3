"""CLIPScore, RefCLIPScore and the generic caption rate on vectors that can be reckoned by hand."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.evaluation.metrics.embeddings import caption_retrieves_image, clip_score, ref_clip_score
from diptych.types import InputError

EYE = np.eye(3, dtype=np.float32)


def test_clip_score_by_hand() -> None:
    images = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    texts = np.array([[3.0, 4.0], [0.0, 7.0], [-1.0, 1.0]], dtype=np.float32)
    np.testing.assert_allclose(clip_score(images, texts), [2.5 * 0.6, 2.5, 0], atol=1e-7)


def test_ref_clip_score_by_hand() -> None:
    images = np.array([[1.0, 0.0]] * 4)
    texts = np.array([[0.6, 0.8], [0.6, 0.8], [0.0, 1.0], [0.6, 0.8]])
    references = [
        np.array([[0.0, 5.0]]),  # cosine 0.8
        np.array([[-1.0, 0.0], [0.6, 0.8], [1.0, 0.0]]),  # best cosine 1
        np.array([[0.0, 1.0]]),  # the picture fits not at all
        np.array([[-0.6, -0.8]]),  # no reference fits
    ]
    expected = [2 * 1.5 * 0.8 / (1.5 + 0.8), 2 * 1.5 * 1 / 2.5, 0, 0]
    np.testing.assert_allclose(ref_clip_score(images, texts, references), expected, atol=1e-12)


def test_a_caption_that_fits_its_picture_finds_it() -> None:
    assert caption_retrieves_image(EYE, 5 * EYE).tolist() == [1, 1, 1]
    assert caption_retrieves_image(EYE, EYE[[1, 0, 2]]).tolist() == [0, 0, 1]


def test_the_same_caption_everywhere_finds_one_picture() -> None:
    towards_second = np.tile([0.5, 0.9, 0.4], (3, 1))
    assert caption_retrieves_image(EYE, towards_second).tolist() == [0, 1, 0]
    np.testing.assert_allclose(caption_retrieves_image(EYE, np.ones((3, 3))), 1 / 3)  # all tie: chance


def test_several_captions_of_a_picture() -> None:
    found = caption_retrieves_image(EYE, EYE[[0, 1, 1, 0, 2]], groups=[0, 0, 1, 1, 2])
    assert found.tolist() == [1, 0, 1, 0, 1]


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match=r"texts: expected the shape of images, \(3, 3\), got \(2, 3\)"):
        clip_score(EYE, EYE[:2])
    with pytest.raises(InputError, match=r"images: row 1 is zero or not finite \(1 such rows\)"):
        clip_score(EYE * [[1], [0], [1]], EYE)
    with pytest.raises(InputError, match="references: expected 3 arrays"):
        ref_clip_score(EYE, EYE, [EYE])
    with pytest.raises(InputError, match="references: expected one or more of each picture, got none at position 2"):
        ref_clip_score(EYE, EYE, [EYE, EYE, EYE[:0]])
    with pytest.raises(InputError, match="picture 2 has no text"):
        caption_retrieves_image(EYE, EYE[:2])
