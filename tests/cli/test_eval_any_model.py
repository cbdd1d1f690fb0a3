"""`diptych eval` of models that are not ours, offline: CLIP and an image-text-to-text model of transformers, a server.

Each writes JSON, a page and its predictions, and `diptych score` gives the same numbers for the predictions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers as hf
from chat_server import ChatServer
from said import Call
from tiny_hf import IDS, SQUARE, TEXT, VISION, save_model, save_tokenizer

from diptych.evaluation import caption
from diptych.models import endpoint_http

DATA = "scenes:?n=4&size=32&objects=2-3"
LANGUAGE = {**TEXT, **IDS, "num_key_value_heads": 2, "max_position_embeddings": 512}


@pytest.fixture(autouse=True)
def without_paraphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR's table is large; that it is read is tested elsewhere."""
    monkeypatch.setattr(caption, "find_meteor_data", lambda folder: None)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf") / "clip"
    save_tokenizer(folder)
    config = hf.CLIPConfig(text_config={**TEXT, **IDS}, vision_config=VISION, projection_dim=24)
    image = hf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE)
    save_model(folder, lambda: hf.CLIPModel(config), image)
    return folder


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PaliGemma, untrained."""
    folder = tmp_path_factory.mktemp("hf") / "writer"
    image = hf.SiglipImageProcessorPil(size=SQUARE)
    image.image_seq_length = 16
    hf.PaliGemmaProcessor(image, save_tokenizer(folder, 512, "<bos> $A")).save_pretrained(folder)
    gemma = {**LANGUAGE, "vocab_size": 1200, "head_dim": 8}
    config = hf.PaliGemmaConfig(
        vision_config=hf.SiglipVisionConfig(**VISION), text_config=gemma, image_token_id=4, projection_dim=32
    )
    save_model(folder, lambda: hf.PaliGemmaForConditionalGeneration(config))
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of a model that sees cubes everywhere."""
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(endpoint_http, "_FIRST_WAIT", 0.01)
    made = ChatServer(lambda text, pictures: "yes" if "?" in text else "Two red cubes on a lawn.")
    yield f"{made.url}?model=tiny"
    made.close()


def judged(call: Call, folder: Path, task: str, *models: object) -> dict[str, Any]:
    """What `eval` wrote as JSON, after a look at what it said and at the page."""
    said = call(
        "eval", *models, "--data", DATA, "--task", task, "--html", folder / "page.html",
        "--predictions", folder / "said", "--json", folder / "found.json", "--device", "cpu",
    )  # fmt: skip
    assert said.code == 0, said.err
    page = (folder / "page.html").read_text()
    assert all(str(model).replace("&", "&amp;") in page for model in models) and "data:image" in page
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    notes = [note for row in found["results"] for note in row["notes"]]
    assert all(note in said.err for note in notes) and bool(notes) == (task == "caption")
    assert found["task"] == task and [row["model"] for row in found["results"]] == [str(model) for model in models]
    return found


def scored_again(call: Call, folder: Path, kind: str, estimates: dict[str, Any]) -> None:
    (file,) = (folder / "said").rglob("*.json")
    again = call("score", kind, file, "--against", DATA, "--json").json
    same = estimates.keys() & again.keys()
    assert again == {name: estimates[name] for name in again} and len(same) == len(again) > 1


@pytest.mark.parametrize("task", ["retrieve", "match"])
def test_clip(call: Call, clip: Path, tmp_path: Path, task: str) -> None:
    found = judged(call, tmp_path, task, clip)["results"][0]["estimates"]
    first = found["retrieval/t2i_r@1" if task == "retrieve" else "match/accuracy"]
    assert 0 <= first["low"] <= first["value"] <= first["high"] <= 1 and 0 < first["chance"] < 1 and first["n"] > 3
    assert not (tmp_path / "said").exists()


@pytest.mark.parametrize(("task", "kind"), [("caption", "captions"), ("answer", "vqa")])
def test_a_writer(call: Call, writer: Path, tmp_path: Path, task: str, kind: str) -> None:
    found = judged(call, tmp_path, task, writer)["results"][0]["estimates"]
    assert all(math.isfinite(one["value"]) for one in found.values())
    if task == "caption":
        scored_again(call, tmp_path, kind, found)
        assert found["caption/claims_right"]["value"] < 0.5
    else:
        assert found["answer/ece"]["n"] == found["answer/accuracy"]["n"] > 10
        scored_again(call, tmp_path, kind, found)


def test_a_server(call: Call, server: str, tmp_path: Path) -> None:
    found = judged(call, tmp_path / "c", "caption", server)["results"][0]["estimates"]
    assert found["caption/length"]["value"] == 6 and found["caption/claims_right"]["n"] == 4
    scored_again(call, tmp_path / "c", "captions", found)
    found = judged(call, tmp_path / "a", "answer", server)["results"][0]["estimates"]
    assert found["answer/accuracy[exist]"]["value"] > 0
    scored_again(call, tmp_path / "a", "vqa", found)


def test_what_a_server_was_asked_is_said(call: Call, server: str, tmp_path: Path) -> None:
    address = f"{server}&price_in=1000"
    said = call("eval", address, "--data", DATA, "--task", "caption", "--device", "cpu")
    assert f"{address}: 4 answered by the server, 0 from the cache" in said.err and "cost 0.4000" in said.err
    words = ("--data", DATA, "--html", tmp_path / "health.html", "--json", tmp_path / "health.json")
    said = call("health", address, "--test", "ambiguity", "--test", "cost", *words)
    assert said.code == 0, said.err
    used = json.loads((tmp_path / "health.json").read_text())["usage"]
    assert " answered by the server, " in used and f"Questions: {used}." in said.out
    assert used in (tmp_path / "health.html").read_text()
    assert "a model in this process, not a server" in said.out and "ms to" not in said.out


def test_several_models_on_several_data_sets(call: Call, clip: Path, writer: Path, server: str, tmp_path: Path) -> None:
    other = "scenes:?n=3&size=32&objects=2-3&split=val"
    words = ("--task", "match", "--html", tmp_path / "page.html", "--json", tmp_path / "found.json", "--device", "cpu")
    said = call("eval", clip, server, "--data", DATA, other, *words)
    assert said.code == 0, said.err
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(row["model"], row["data"]) for row in found["results"]] == [
        (model, data) for data in (DATA, other) for model in (str(clip), server)
    ]
    gaps = {(row["data"], row["metric"]): row for row in found["differences"] if row["model"] == server}
    for data in (DATA, other):
        numbers = {
            row["model"]: row["estimates"]["match/accuracy"]["value"] for row in found["results"] if row["data"] == data
        }
        assert gaps[data, "match/accuracy"]["value"] == pytest.approx(numbers[server] - numbers[str(clip)])
        assert f"True caption preferred on {data}: {server} " in " ".join(said.out.split())
    page = (tmp_path / "page.html").read_text()
    assert page.index("Numbers on") < page.index("Differences") < page.index("Examples (")


def test_who_cannot_is_named_and_left_out(call: Call, clip: Path, writer: Path) -> None:
    said = call("eval", clip, writer, "--data", DATA, "--task", "caption", "--device", "cpu", "--json")
    assert said.code == 0 and [row["model"] for row in said.json["results"]] == [str(writer)]
    assert f"{clip} on {DATA}: left out: " in said.err and "cannot write captions" in said.err
    alone = call("eval", clip, "--data", DATA, "--task", "caption", "--device", "cpu")
    assert alone.code == 2 and "cannot write captions" in alone.err and len(alone.err.splitlines()) == 1
    none = call("eval", clip, "--data", DATA, "clipart", "--task", "detect", "--device", "cpu")
    assert none.code == 2 and "no model could be judged on any of the data" in none.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--task", "answer", "--judge", "x"], "--judge: only --task caption, draw and retrieve are judged by a model"),
        (["--task", "match", "--labels", "a,b"], "--labels: only --task classify has classes"),
        (["--task", "classify", "--labels", " ,"], "--labels: expected names of classes, separated by commas"),
    ],
)
def test_options_that_do_not_fit(call: Call, clip: Path, words: list[str], sentence: str) -> None:
    said = call("eval", clip, "--data", DATA, *words)
    assert said.code == 2 and sentence in said.err
