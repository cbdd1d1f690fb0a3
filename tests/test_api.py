"""The public verbs on a small dataset of coloured squares: train, judge, store pairs, save, load, embed, search."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.data.writer import DatasetWriter
from diptych.evaluation.report.figures import read_curve
from diptych.pocket import add_pairs, mean_text_features
from diptych.types import EncodedImage, InputError, Sample

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 220), "yellow": (240, 220, 40)}


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 noisy pictures of 4 colours by 6 creators."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("squares") / "squares"
    with DatasetWriter(folder) as writer:
        for i in range(24):
            name = list(COLOURS)[i % 4]
            pixels = np.array(COLOURS[name]) + rng.integers(-20, 21, (16, 16, 3))
            data = io.BytesIO()
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data, "PNG")
            texts = [f"a {name} square"]
            image = [EncodedImage(data.getvalue())]
            writer.write(Sample(f"{i:02d}", image, texts, label=name, creator=f"creator {i // 4}"))
    return folder


TINY = {
    "model": {
        "vision": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "heads": 2},
        "text": {"width": 32, "layers": 1, "heads": 2, "vocab_size": 300, "context_length": 12},
        "image": {"size": 16},
        "embed_dim": 16,
    },
    "training": {"steps": 4, "log_every": 2},
    "loader": {"batch_size": 8, "held_out": 0.3},
}


def test_train_judge_save_load(squares: Path, tmp_path: Path):
    settings = diptych.recipe("clip", settings=TINY)
    trained = diptych.train(settings, squares, tmp_path / "run", show="silent", command="the command")
    assert trained.run is not None and trained.run.steps == 4
    curve = read_curve(tmp_path / "run" / "metrics.jsonl")  # what the loop writes is what the report reads
    assert (curve.steps, curve.chance) == ([1, 2, 4], pytest.approx(np.log(8)))
    assert trained.held_out is not None and len(trained.held_out) < 24
    assert trained.estimates["retrieval/t2i_r@10"].n == len(trained.held_out)
    assert "the command" in (trained.folder / "README.md").read_text()
    again = diptych.load(trained.folder)
    texts = ["a red square", "a blue square"]
    rows = diptych.embed_texts(again, texts)
    np.testing.assert_array_equal(rows, diptych.embed_texts(trained.model, texts))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    found = diptych.evaluate(trained.folder, squares, "classify")
    assert found.estimates["zero_shot/top1"].n == 24
    with pytest.raises(InputError, match="retrieve, classify"):
        diptych.evaluate(again, squares, "captioning")  # type: ignore[arg-type]


def test_a_finished_run_is_not_trained_again(squares: Path, tmp_path: Path):
    settings = diptych.recipe("clip", settings=TINY)
    first = diptych.train(settings, squares, tmp_path / "run", show="silent")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text()
    second = diptych.train(settings, squares, tmp_path / "run", show="silent")
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == lines
    texts = ["a red square"]
    np.testing.assert_array_equal(diptych.embed_texts(first.model, texts), diptych.embed_texts(second.model, texts))


def test_a_model_is_trained_further(squares: Path, tmp_path: Path):
    first = diptych.train(diptych.recipe("clip", settings=TINY), squares, tmp_path / "first", show="silent")
    further = {name: TINY[name] for name in ("training", "loader")}
    still = {**further, "training": {**TINY["training"], "lr": 1e-30}}
    settings = diptych.recipe("clip", start=tmp_path / "first", settings=still)
    assert settings.model == first.model.config
    same = diptych.train(settings, squares, tmp_path / "same", show="silent")
    texts = ["a red square", "a blue square"]
    before = diptych.embed_texts(first.model, texts)
    np.testing.assert_allclose(diptych.embed_texts(same.model, texts), before, atol=1e-6)
    settings = diptych.recipe("clip", start=first.folder, settings=further)
    other = diptych.train(settings, squares, tmp_path / "other", show="silent")
    assert np.abs(diptych.embed_texts(other.model, texts) - before).max() > 1e-3
    with pytest.raises(InputError, match="start"):  # the run in the folder had another
        diptych.train(diptych.recipe("clip", settings=TINY), squares, tmp_path / "other", show="silent")
    with pytest.raises(InputError, match=r"model: .*its own settings"):
        diptych.recipe("clip", start=first.folder, settings=TINY)
    with pytest.raises(InputError, match="expected 'lit', got 'clip'"):
        diptych.recipe("lit", start=first.folder)
    with pytest.raises(InputError, match="expected a model"):
        diptych.recipe("clip", start=tmp_path)


def test_locked_tower_trains_on_cached_features(squares: Path, vision_folder: Path, tmp_path: Path):
    text = TINY["model"]["text"]
    model = {"image_address": str(vision_folder), "text": {"kind": "transformer", **text, "eos_id": 1}, "image": None}
    settings = diptych.recipe("lit", settings={**TINY, "model": model})
    trained = diptych.train(settings, squares, tmp_path / "run", show="silent")
    assert trained.run is not None and trained.run.finished
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["kind"] == "train"


def test_asif_stores_the_pairs(squares: Path, vision_folder: Path, text_folder: Path, tmp_path: Path):
    model = {"image_address": str(vision_folder), "text_address": str(text_folder), "k": 10}
    settings = diptych.recipe("asif", settings={"model": model, "loader": {"held_out": 0.3}})
    trained = diptych.train(settings, squares, tmp_path / "run")
    assert trained.run is None
    assert trained.model.num_pairs == 24 - len(trained.held_out)
    assert diptych.load(trained.folder).names == trained.model.names
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, colour in zip(paths, COLOURS.values()):
        Image.new("RGB", (16, 16), colour).save(path)
    hits = diptych.retrieve(trained.folder, ["a red square", paths[1]], paths, k=2)
    assert [len(found) for found in hits] == [2, 2]
    assert hits[1][0].id == str(paths[1])  # a picture finds itself


def test_pairs_need_a_picture_and_a_caption(vision_folder: Path, text_folder: Path, tmp_path: Path):
    with DatasetWriter(tmp_path / "bare") as writer:
        writer.write(Sample("no picture", captions=["a text"]))
    model = diptych.recipe(
        "asif", settings={"model": {"image_address": str(vision_folder), "text_address": str(text_folder)}}
    )
    from diptych.models.asif import ASIF

    with pytest.raises(InputError, match="picture and a caption"):
        add_pairs(ASIF.new(model.model), diptych.open_dataset(tmp_path / "bare"))


def test_texts_of_a_pair_are_averaged(vision_folder: Path, text_folder: Path):
    from diptych.models import asif

    model = asif.build(str(vision_folder), str(text_folder))
    both = mean_text_features(model, [["a red square", "a green square"], ["a red square"]])
    red, green = mean_text_features(model, [["a red square"], ["a green square"]])
    np.testing.assert_allclose(both[0], (red + green) / 2, atol=1e-6)
    np.testing.assert_allclose(both[1], red, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(red), 1, atol=1e-5)


def test_what_cannot_be_judged_is_told_and_the_model_is_kept(squares: Path, tmp_path: Path):
    decoder = {"vocab_size": 300, "context_length": 24, "width": 32, "layers": 1, "heads": 2}
    model = {"decoder": decoder, "image": {"size": 64}}
    common = {"model": model, "training": {"steps": 1}, "loader": {"batch_size": 8, "held_out": 0.3, "texts": "both"}}
    trained = diptych.train(diptych.recipe("simvlm", settings=common), squares, tmp_path / "run", show="silent")
    assert "caption/cider_d" in trained.estimates and (trained.folder / "model.safetensors").exists()
    assert len(trained.unjudged) == 1 and "no sample has one that can be answered" in trained.unjudged[0]
    documents = diptych.recipe("simvlm", settings=common | {"loader": {"batch_size": 8, "texts": "documents"}})
    with pytest.raises(InputError, match=r"documents|captions"):
        diptych.train(documents, squares, tmp_path / "documents", show="silent")


def test_data_without_captions_cannot_be_trained_on(tmp_path: Path):
    with DatasetWriter(tmp_path / "mute") as writer:
        writer.write(Sample("a"))
        writer.write(Sample("b"))
    with pytest.raises(InputError, match="captions to train on"):
        diptych.train("clip", tmp_path / "mute", tmp_path / "run")


def test_unknown_names_of_the_package_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        diptych.trian  # noqa: B018
    assert {"train", "load", "open_dataset"} <= set(dir(diptych))
