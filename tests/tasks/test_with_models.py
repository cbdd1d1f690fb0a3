"""The tasks with the real families, tiny and untrained."""

import numpy as np
import pytest
import torch
from test_embed import dataset
from toy_encoder import COLOURS, picture

from diptych.models.asif import build
from diptych.models.clip import CLIP, CLIPConfig
from diptych.processing import ImageConfig
from diptych.search import FolderIndex
from diptych.tasks import classify, embed_images, embed_texts, image_features, retrieve
from diptych.tasks.classify import similarity_scale
from diptych.tasks.embed import text_features
from diptych.towers import ModifiedResNetConfig, TextTransformerConfig, ViTConfig

CAPTIONS = [f"a {colour} {thing}" for colour in COLOURS for thing in ("square", "picture of something", "car")]
TEXT = TextTransformerConfig(vocab_size=300, context_length=24, width=24, layers=2, heads=2, eos_id=1)
VISIONS = {
    "vit": ViTConfig(image_size=16, patch_size=8, width=32, layers=2, heads=2),
    "resnet": ModifiedResNetConfig(depths=(1, 1, 1, 1), stem_width=8, heads=4, image_size=32, output_width=20),
}


@pytest.fixture(params=VISIONS)
def clip(request):
    vision = VISIONS[request.param]
    return CLIP.new(CLIPConfig(vision, TEXT, ImageConfig(size=vision.image_size), embed_dim=20), CAPTIONS, seed=0)


def test_clip_embeds_what_it_encodes(clip):
    images = [picture(name, size=(40, 30), noise=60, seed=i) for i, name in enumerate(COLOURS)]
    clip.train()
    rows, texts = (
        embed_images(clip, images, batch_size=2, precision="fp32"),
        embed_texts(clip, CAPTIONS, precision="fp32"),
    )
    assert clip.training
    clip.eval()
    pixels = clip.processor.collate(["x"] * 5, [clip.processor.decode_image(image) for image in images], None).pixels
    words = clip.processor.collate(["x"] * len(CAPTIONS), None, CAPTIONS)
    with torch.no_grad():
        assert np.allclose(rows, clip.encode_image(pixels), atol=1e-5)
        assert np.allclose(texts, clip.encode_text(words.tokens, words.token_mask), atol=1e-5)
    near = embed_images(clip, images), embed_texts(clip, CAPTIONS)
    assert (near[0] * rows).sum(axis=1).min() > 0.995 and (near[1] * texts).sum(axis=1).min() > 0.995


def test_clip_classifies_and_retrieves(clip, tmp_path):
    names = list(COLOURS)
    images = [picture(name, size=(40, 30)) for name in names]
    assert np.isclose(similarity_scale(clip), 1 / 0.07, rtol=1e-4), "as it starts"
    scores = embed_texts(clip, ["a red car"], precision="fp32") @ embed_images(clip, images, precision="fp32").T
    assert [int(hit.id) for hit in retrieve(clip, ["a red car"], images, k=5)[0]][0] in np.argsort(-scores[0])[:2]
    answers = classify(clip, images, ["car", "square"])
    assert all(np.isclose(sum(answer.probabilities.values()), 1) for answer in answers)


def test_clip_indexes_a_folder(clip, tmp_path):
    for name in COLOURS:
        picture(name, size=(40, 30), noise=60).save(tmp_path / f"{name}.png")
    index = FolderIndex(tmp_path, clip, at=tmp_path / ".index")
    assert index.refresh().added == 5
    assert index.search(tmp_path / "blue.png", 1)[0].id == "blue.png"
    assert FolderIndex(tmp_path, clip, at=tmp_path / ".index").refresh().unchanged == 5


def test_features_of_frozen_towers_are_what_asif_stores(vision_folder, text_folder, tmp_path):
    model = build(str(vision_folder), str(text_folder), k=3)
    data = dataset(tmp_path / "d", [(name, picture(name, noise=60)) for name in COLOURS])
    features = image_features(model, data, cache=False, precision="fp32")
    words = text_features(model, CAPTIONS[:5], batch_size=2, precision="fp32")
    model.add_pairs(torch.from_numpy(np.stack(list(features.values()))), torch.from_numpy(words), list(features))
    rows = embed_images(model, data, precision="fp32")
    expected = model.embed_image_features(torch.from_numpy(np.stack([features[name] for name in COLOURS])))
    assert rows.shape == (5, 5) and np.allclose(rows, expected, atol=1e-5)
    with torch.no_grad():
        batch = model.processor.collate(["x"] * 5, None, CAPTIONS[:5])
        assert np.allclose(words, model.text_features(batch.tokens, batch.token_mask), atol=1e-4)
    assert np.allclose(
        embed_texts(model, CAPTIONS[:5], precision="fp32"),
        model.embed_text_features(torch.from_numpy(words)),
        atol=1e-4,
    )
