"""caption, ask, chat: with a chat server whose replies are known, and with a family of ours."""

import dataclasses
import io
import json

import numpy as np
import pytest
from chat_server import ChatServer
from PIL import Image

from diptych import models
from diptych.cli.ask import CANNOT_TELL, ROW
from diptych.models import endpoint_http
from diptych.models.visualgpt import PRESETS, VisualGPT

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


def seen(text, pictures):
    """What a server says that knows colours and is right about half the time on anything else."""
    mean = pictures[0].mean(axis=(0, 1))
    return min(COLOURS, key=lambda name: np.abs(mean - COLOURS[name]).sum())


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server whose replies are as sure as ChatServer makes them."""
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(endpoint_http, "_FIRST_WAIT", 0.01)
    made = ChatServer(seen)
    yield made
    made.close()


@pytest.fixture
def address(server):
    return f"{server.url}?model=tiny"


@pytest.fixture
def squares(tmp_path):
    folder = tmp_path / "squares"
    folder.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (48, 48), colour).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="session")
def family(tmp_path_factory):
    """A VisualGPT that has learnt nothing, saved."""
    tiny = PRESETS["tiny"]
    config = dataclasses.replace(tiny, lm=dataclasses.replace(tiny.lm, vocab_size=300, width=32, layers=1))
    return models.save(VisualGPT.new(config, ["a red square"] * 3), tmp_path_factory.mktemp("model") / "visualgpt")


def test_caption_prints_each_picture_and_writes_json_and_a_page(call, address, squares, tmp_path):
    (squares / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    html = tmp_path / "sheet.html"
    said = call("caption", address, squares, "--html", html)
    assert said.code == 0 and "left out" in said.err and "torn.png" in said.err
    lines = said.out.splitlines()
    assert len(lines) == 3 and all(line.split()[-1] in line.split()[-2] for line in lines), "red beside red.png"
    page = html.read_text()
    assert page.count("data:image/jpeg") == 3 and "Written by" in page and ">red<" in page
    rows = call("caption", address, squares, "--json").json
    assert [row["caption"] for row in rows] == ["blue", "green", "red"] and rows[0]["id"].endswith("blue.png")
    assert all(0 < row["confidence"] <= 1 for row in rows)


def test_caption_of_a_dataset_by_a_family(call, family, tmp_path):
    said = call("caption", family, "scenes:?n=3&size=64", "--json", "--html", tmp_path / "sheet.html")
    assert said.code == 0 and len(said.json) == 3 and set(said.json[0]) == {"id", "caption", "confidence"}
    assert (tmp_path / "sheet.html").read_text().count("data:image/jpeg") == 3


def test_caption_says_what_it_cannot(call, model, squares, tmp_path):
    said = call("caption", model, squares)
    assert said.code == 2 and "cannot write captions" in said.err and "Traceback" not in said.err
    assert "expected a name that ends in" in call("caption", model, squares, "--html", tmp_path / "x.txt").err


def test_ask_answers_each_question(call, address, squares):
    said = call("ask", address, squares / "red.png", "What colour is it?")
    assert said.code == 0 and said.out.startswith("red (") and said.out.count("\n") == 1
    both = call("ask", address, squares / "blue.png", "What colour?", "Which colour?", "--json").json
    assert [row["question"] for row in both] == ["What colour?", "Which colour?"]
    assert {row["answer"] for row in both} == {"blue"} and both[0]["withheld"] is None


def test_ask_keeps_back_what_the_model_is_unsure_of(call, address, squares, tmp_path):
    picture = squares / "red.png"
    confidence = call("ask", address, picture, "What?", "--json").json[0]["confidence"]
    assert 0 < confidence < 1
    assert call("ask", address, picture, "What?", "--below", 0.99 * confidence).out.startswith("red")
    assert call("ask", address, picture, "What?", "--below", confidence).out.startswith("red"), "the threshold answers"
    above = (1 + confidence) / 2
    assert call("ask", address, picture, "What?", "--below", above).out.startswith(CANNOT_TELL)
    report = tmp_path / "health.json"
    row = {"name": ROW, "verdict": "good", "sentence": "It is less sure.", "details": {"threshold": above}}
    report.write_text(json.dumps({"rows": [{"name": "other"}, row]}))
    rows = call("ask", address, picture, "What?", "--below", report, "--json").json
    assert rows == [{"question": "What?", "answer": CANNOT_TELL, "confidence": confidence, "withheld": "red"}]


@pytest.mark.parametrize(
    ("below", "says"),
    [
        ("1.5", "from 0 to 1"),
        ("no-such-file.json", "a number from 0 to 1 or a file"),
        ('{"rows": []}', "the JSON of `diptych health`"),
        ("[1]", "the JSON of `diptych health`"),
        (
            json.dumps({"rows": [{"name": ROW, "verdict": "not judged", "sentence": "Needs x.", "details": {}}]}),
            "Needs x",
        ),
    ],
)
def test_a_threshold_that_is_none_is_refused(call, address, squares, tmp_path, below, says):
    if below[0] in "[{":
        (tmp_path / "report.json").write_text(below)
        below = tmp_path / "report.json"
    said = call("ask", address, squares / "red.png", "What?", "--below", below)
    assert said.code == 2 and says in said.err and said.out == ""


def test_a_model_that_is_never_sure_cannot_be_told_to_keep_back(call, server, address, squares):
    server.logprobs = False
    said = call("ask", address, squares / "red.png", "What?")
    assert said.out == "red\n"
    said = call("ask", address, squares / "red.png", "What?", "--below", 0.5)
    assert said.code == 2 and "does not tell how sure" in said.err


def test_ask_needs_a_question_and_a_picture(call, address, squares, model):
    assert "question in quotes" in call("ask", address, squares / "red.png").err
    said = call("ask", address, squares / "gone.png", "What?")
    assert said.code == 2 and "gone.png" in said.err
    said = call("ask", model, squares / "red.png", "What is it?")
    assert said.code == 2 and "without choices" in said.err
    chosen = call("ask", model, squares / "red.png", "What is it?", "--choices", "a cat, a dog", "--json").json[0]
    assert chosen["answer"] in ("a cat", "a dog") and 0.5 <= chosen["confidence"] <= 1


def chat(call, monkeypatch, lines, *words):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    return call("chat", *words)


def test_chat_answers_line_by_line_and_takes_another_picture(call, monkeypatch, address, squares):
    lines = ["What?", "", "/image", f"/image {squares / 'none.png'}", f"/image {squares / 'blue.png'}", "And now?"]
    said = chat(call, monkeypatch, [*lines, "/what", "/quit", "Not asked"], address, squares / "red.png")
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()] == ["red", "blue"]
    assert said.err.count("expected a file") == 2 and "/quit ends" in said.err


def test_chat_without_a_picture_asks_for_one_and_ends_with_its_input(call, monkeypatch, address, squares):
    said = chat(call, monkeypatch, ["What?", f"/image {squares / 'green.png'}", "What?"], address, "--below", "1")
    assert said.code == 0 and "no picture yet" in said.err
    assert said.out.startswith(CANNOT_TELL)


def test_chat_with_a_family_and_with_a_model_that_cannot(call, monkeypatch, family, model, squares):
    said = chat(call, monkeypatch, ["What is it?"], family, squares / "red.png")
    assert said.code == 0 and said.out.rstrip().endswith("%)")
    said = chat(call, monkeypatch, ["What is it?"], model, squares / "red.png")
    assert said.code == 2 and "cannot chat" in said.err
