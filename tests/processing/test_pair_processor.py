"""Pictures and captions into one batch, its fingerprint, and the optional augmentation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.processing import ImageConfig, ImageProcessor, PairProcessor, TextProcessor
from diptych.processing.augment import augment_pairs, swap_sides

CAPTIONS = ["a red car on the left", "a blue car", "right"]


@pytest.fixture(scope="module")
def processor() -> PairProcessor:
    return PairProcessor(ImageProcessor(ImageConfig(size=8)), TextProcessor.train(CAPTIONS, 300, 10))


def _pictures(count: int = 3) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8))


def test_collate(processor: PairProcessor) -> None:
    pictures = [processor.decode_image(picture) for picture in _pictures()]
    batch = processor.collate(["a", "b", "c"], pictures, CAPTIONS)
    assert batch.ids == ["a", "b", "c"] and len(batch) == 3
    assert batch.pixels is not None and batch.pixels.shape == (3, 3, 8, 8) and batch.pixels.dtype == torch.uint8
    assert batch.pixels.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(batch.pixels[1].permute(1, 2, 0).numpy(), pictures[1])
    assert batch.tokens is not None and batch.token_mask is not None and batch.tokens.shape == batch.token_mask.shape


def test_either_side_may_be_absent(processor: PairProcessor) -> None:
    images_only = processor.collate(["a", "b", "c"], _pictures(), None)
    texts_only = processor.collate(["a", "b", "c"], None, CAPTIONS)
    assert images_only.tokens is None and images_only.pixels is not None
    assert texts_only.pixels is None and texts_only.tokens is not None


def test_save_load_and_fingerprint(processor: PairProcessor, tmp_path: Path) -> None:
    processor.save(tmp_path)
    assert PairProcessor.load(tmp_path).fingerprint() == processor.fingerprint()
    other = PairProcessor(ImageProcessor(ImageConfig(size=9)), processor.text)
    assert other.fingerprint() != processor.fingerprint()
    longer = PairProcessor(processor.image, TextProcessor.train(CAPTIONS, 300, 11))
    assert longer.fingerprint() != processor.fingerprint()


def test_augmentation_needs_and_obeys_its_generator(processor: PairProcessor) -> None:
    with pytest.raises(ValueError, match="generator"):
        processor.collate(["a", "b", "c"], _pictures(), CAPTIONS, augment=True)

    def run(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        pixels = processor.collate(["a", "b", "c"], _pictures(), None, augment=True, generator=generator).pixels
        assert pixels is not None
        return pixels

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


def test_whole_area_is_nearly_the_identity() -> None:
    ramp = torch.arange(16, dtype=torch.uint8).mul(10).expand(1, 3, 16, 16).contiguous()
    same, texts = augment_pairs(ramp, None, torch.Generator().manual_seed(0), least_area=1.0)
    assert texts is None
    assert (same.int() - ramp.int()).abs().float().mean() < 12  # only the aspect ratio moved


def test_a_crop_is_a_part_of_the_picture() -> None:
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).expand(64, 3, 32, 32).contiguous()
    cut, _ = augment_pairs(ramp, None, torch.Generator().manual_seed(0), least_area=0.2)
    assert (cut[..., 1:] >= cut[..., :-1]).all()  # still rising to the right: nothing is mirrored
    spans = (cut[:, 0, 0, -1].int() - cut[:, 0, 0, 0].int()).float()
    assert spans.min() < 150 and spans.max() <= 248


def test_flip_mirrors_and_swaps_the_words_together() -> None:
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).expand(64, 3, 32, 32).contiguous()
    texts = ["dark on the left"] * 64
    cut, swapped = augment_pairs(ramp, texts, torch.Generator().manual_seed(0), least_area=0.9, flip=True)
    assert swapped is not None
    mirrored = [bool(picture[0, 0, 0] > picture[0, 0, -1]) for picture in cut]
    assert 16 < sum(mirrored) < 48
    assert swapped == ["dark on the right" if m else "dark on the left" for m in mirrored]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cup left of a plate", "a cup right of a plate"),
        ("RIGHT and Left, left-hand", "LEFT and Right, right-hand"),
        ("the leftmost one", "the rightmost one"),
        ("a bright leftover, copyright", "a bright leftover, copyright"),
    ],
)
def test_swap_sides(text: str, expected: str) -> None:
    assert swap_sides(text) == expected
    assert swap_sides(swap_sides(text)) == text
