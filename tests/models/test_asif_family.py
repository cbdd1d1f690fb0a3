"""ASIF: relative representations by hand, pairs that come and go, and similarities that explain themselves."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diptych import models
from diptych.capabilities import DualEncoder, ExplainsSimilarity, HasFrozenImageTower
from diptych.models import asif
from diptych.models.asif import ASIF, PRESETS, ASIFConfig, whitening
from diptych.types import Batch, InputError

NAMES = [f"pair {i}" for i in range(6)]


@pytest.fixture
def model(vision_folder: Path, text_folder: Path) -> ASIF:
    net = asif.build(str(vision_folder), str(text_folder), k=3, image_power=2.0, text_power=2.0)
    generator = torch.Generator().manual_seed(0)
    net.add_pairs(torch.randn(6, 24, generator=generator), torch.randn(6, 20, generator=generator), NAMES)
    return net


def pictures(rows: int = 4, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (rows, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def _with_anchors(model: ASIF, image: Tensor, text: Tensor | None = None, **fields: object) -> ASIF:
    """A model of the same towers whose anchors lie along given axes of feature space."""
    net = ASIF(dataclasses.replace(model.config, **fields), model.processor)  # type: ignore[arg-type]
    wide = torch.zeros(len(image), 24)
    wide[:, : image.shape[1]] = image
    words = torch.zeros(len(image), 20)
    words[:, : image.shape[1]] = image if text is None else text
    net.add_pairs(wide, words, [f"anchor {i}" for i in range(len(image))])
    return net


def _row(*values: float, width: int) -> Tensor:
    row = torch.zeros(1, width)
    row[0, : len(values)] = torch.tensor(values)
    return row


def test_capabilities(model: ASIF) -> None:
    assert isinstance(model, DualEncoder)
    assert isinstance(model, HasFrozenImageTower) and isinstance(model, ExplainsSimilarity)


def test_by_hand(model: ASIF) -> None:
    """Cosines (0.8, 0.6, 0, -0.8) to four anchors; the two largest, squared, of length 1."""
    anchors = torch.tensor([[2.0, 0, 0], [0, 3.0, 0], [0, 0, 1.0], [-1.0, 0, 0]])
    net = _with_anchors(model, anchors, k=2)
    row = net.embed_image_features(_row(4.0, 3.0, width=24))
    expected = torch.tensor([[0.64, 0.36, 0, 0]])
    torch.testing.assert_close(row, expected / expected.norm())
    # the text lies along the second anchor alone; p = 2 there too
    text = net.embed_text_features(_row(0.0, 5.0, width=20))
    torch.testing.assert_close(text, torch.tensor([[0.0, 1.0, 0, 0]]))
    assert (row @ text.t()).item() == pytest.approx(0.36 / (0.64**2 + 0.36**2) ** 0.5)


def test_negative_similarities_count_as_nothing(model: ASIF) -> None:
    net = _with_anchors(model, torch.tensor([[1.0, 0], [-1.0, 0]]), k=2, image_power=8.0)
    torch.testing.assert_close(net.embed_image_features(_row(1.0, width=24)), torch.tensor([[1.0, 0.0]]))


def test_powers_are_of_each_side(model: ASIF) -> None:
    net = _with_anchors(model, torch.eye(2), k=2, image_power=1.0, text_power=4.0)
    torch.testing.assert_close(net.embed_image_features(_row(0.8, 0.6, width=24)), torch.tensor([[0.8, 0.6]]))
    raised = torch.tensor([[0.8**4, 0.6**4]])
    torch.testing.assert_close(net.embed_text_features(_row(0.8, 0.6, width=20)), raised / raised.norm())


def test_centring_takes_the_mean_of_the_anchors_away(model: ASIF) -> None:
    anchors = torch.nn.functional.normalize(torch.tensor([[5.0, 1.0], [5.0, -1.0]]), dim=1)
    plain, centred = (_with_anchors(model, anchors, k=2, image_power=1.0, whiten=whiten) for whiten in (None, 1e6))
    query = torch.nn.functional.pad(anchors[:1], (0, 22))
    assert plain.embed_image_features(query)[0, 1] > 0.65  # all vectors point one way: nothing is told apart
    torch.testing.assert_close(centred.embed_image_features(query), torch.tensor([[1.0, 0.0]]), atol=1e-6, rtol=0)


def test_classifier_rows_are_directions_that_centring_leaves_alone(model: ASIF) -> None:
    net = _with_anchors(model, torch.tensor([[5.0, 1.0], [5.0, -1.0]]), k=4, image_power=1.0, whiten=1e6)
    rows = torch.nn.functional.pad(torch.tensor([[0.0, 2.0], [0.0, -2.0]]), (0, 22))
    net.pairs_from_classifier(rows, torch.randn(2, 20, generator=torch.Generator().manual_seed(0)), ["up", "down"])
    assert net.num_pairs == 4 and net.directions.tolist() == [False, False, True, True]
    up = net.embed_image_features(torch.nn.functional.pad(torch.tensor([[5.0, 1.0]]), (0, 22)))
    # after centring the picture points along (0, 1): as like the class row "up" as like its own pair
    torch.testing.assert_close(up, torch.tensor([[0.5**0.5, 0, 0.5**0.5, 0]]), atol=1e-6, rtol=0)


def test_whitening_evens_out_the_spread_of_the_anchors() -> None:
    rows = torch.tensor([[3.0, 0.5], [-3.0, 0.5], [0.0, 1.5], [0.0, -0.5]])  # mean (0, 0.5), variances 4.5 and 0.5
    mean, matrix = whitening(rows, shrinkage=0.2)  # floor 0.2 x 2.5 = 0.5
    torch.testing.assert_close(mean, torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(matrix, torch.diag(torch.tensor([5.0**-0.5, 1.0])))


def test_pictures_and_classes_are_compared_among_themselves(model: ASIF) -> None:
    """Cosines 1 and 0.6 to two pictures, 0.1 to one class: each kind has length 1 before the weights 1 and 3."""
    net = _with_anchors(model, torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0]]), k=9, image_power=1.0, class_weight=3.0)
    rows = torch.nn.functional.pad(torch.tensor([[0.1, 0.0, 0.99**0.5]]), (0, 21))
    net.pairs_from_classifier(rows, torch.ones(1, 20), ["class"])
    expected = torch.tensor([[1.0 / 1.36**0.5 * 0.5, 0.6 / 1.36**0.5 * 0.5, 0.75**0.5]])
    torch.testing.assert_close(net.embed_image_features(_row(2.0, width=24)), expected)


def test_rows_are_sparse_and_of_length_one(model: ASIF) -> None:
    rows = model.encode_image(pictures())
    assert rows.shape == (4, 6) and rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4))
    assert ((rows != 0).sum(1) <= 3).all()


def test_chunks_of_rows_change_nothing(model: ASIF, monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(7, 24, generator=torch.Generator().manual_seed(3))
    whole = model.embed_image_features(features)
    monkeypatch.setattr(asif, "_ROWS", 2)
    torch.testing.assert_close(model.embed_image_features(features), whole, atol=1e-6, rtol=0)


def test_the_rule_leaves_autocast(model: ASIF) -> None:
    features = torch.randn(3, 24, generator=torch.Generator().manual_seed(3))
    plain = model.embed_image_features(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.embed_image_features(features), plain)


def test_explanation_sums_to_the_score(model: ASIF) -> None:
    assert model.processor is not None
    image = model.encode_image(pictures())[0]
    text = model.encode_text(*model.processor.text(["a red square"]))[0]
    everything = model.explain(image, text, k=100)
    assert sum(value for _, value in everything) == pytest.approx(float(image @ text), abs=1e-6)
    values = [value for _, value in everything]
    assert values == sorted(values, reverse=True) and all(value > 0 for value in values)
    assert {name for name, _ in everything} <= set(NAMES)
    assert model.explain(image, text, k=1) == everything[:1]
    with pytest.raises(InputError, match="two vectors of 6"):
        model.explain(image[:5], text[:5])


def test_a_pairs_own_picture_and_text_find_each_other(model: ASIF) -> None:
    net = ASIF(dataclasses.replace(model.config, k=4, image_power=8.0, text_power=8.0), model.processor)
    generator = torch.Generator().manual_seed(1)
    image, text = torch.randn(30, 24, generator=generator), torch.randn(30, 20, generator=generator)
    net.add_pairs(image, text, [str(i) for i in range(30)])
    scores = net.embed_image_features(image) @ net.embed_text_features(text).t()
    assert torch.equal(scores.argmax(dim=1), torch.arange(30))
    name, share = net.explain(net.embed_image_features(image[:1])[0], net.embed_text_features(text[:1])[0], k=1)[0]
    assert name == "0" and share > 0.9


def test_pairs_come_and_go(model: ASIF) -> None:
    before = model.encode_image(pictures())
    extra = torch.Generator().manual_seed(9)
    model.add_pairs(torch.randn(2, 24, generator=extra), torch.randn(2, 20, generator=extra), ["new", "newer"])
    assert model.num_pairs == 8 and model.encode_image(pictures()).shape == (4, 8)
    model.remove_pairs(["new", "newer"])
    assert model.names == NAMES
    assert torch.equal(model.encode_image(pictures()), before)
    model.remove_pairs(["pair 2"])
    assert model.num_pairs == 5 and "pair 2" not in model.names
    with pytest.raises(InputError, match=r"no pair is called 'pare 3' \(did you mean 'pair 3'\?\)"):
        model.remove_pairs(["pare 3"])


def test_nothing_trains_and_training_is_refused(model: ASIF) -> None:
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.train()
    assert not any(module.training for module in model.modules())
    with pytest.raises(InputError, match="asif trains nothing"):
        model(Batch(ids=["a"]))


def test_bad_pairs_are_refused(model: ASIF) -> None:
    with pytest.raises(InputError, match="expected 2 rows of width 24 and 20"):
        model.add_pairs(torch.zeros(2, 24), torch.zeros(2, 21), ["a", "b"])
    with pytest.raises(InputError, match="finite"):
        model.add_pairs(torch.full((1, 24), float("nan")), torch.zeros(1, 20), ["a"])
    assert model.num_pairs == 6
    model.remove_pairs(NAMES)
    with pytest.raises(InputError, match="no pairs yet"):
        model.encode_image(pictures())
    with pytest.raises(InputError, match="asif: k"):
        ASIFConfig(k=0)
    with pytest.raises(InputError, match="image_address"):
        ASIF.new(ASIFConfig())


def test_save_and_load_with_as_many_pairs_as_there_are(model: ASIF, tmp_path: Path) -> None:
    models.save(model, tmp_path / "m")
    loaded = models.load(tmp_path / "m")
    assert loaded.names == NAMES and loaded.config == model.config
    assert torch.equal(loaded.encode_image(pictures()), model.encode_image(pictures()))
    assert loaded.image_tower_fingerprint() == model.image_tower_fingerprint()
    loaded.add_pairs(torch.ones(1, 24), torch.ones(1, 20), ["\u00e9t\u00e9"])
    models.save(loaded, tmp_path / "m")  # over the old one
    again = models.load(tmp_path / "m")
    assert again.names == [*NAMES, "\u00e9t\u00e9"]


def test_presets_name_their_towers() -> None:
    assert all(config.image_address and config.text_address for config in PRESETS.values())
