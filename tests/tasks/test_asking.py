"""match, caption, answer, detect, segment, draw: every kind of model that can, and a sentence for one that cannot."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_embed import dataset, encoded
from torch import nn
from toy_encoder import COLOURS, Toy, picture

import diptych
from diptych import tasks
from diptych.data.store import Dataset, DatasetWriter
from diptych.tasks.answer import SENTENCE
from diptych.types import Detection, EncodedImage, InputError, Rejected, Reply, Sample

NAMES = list(COLOURS)


def colour_of(pixels):
    """The colour that a picture has, and proof that it arrived as it should."""
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    return min(NAMES, key=lambda name: np.abs(pixels.mean(axis=(0, 1)) - COLOURS[name]).sum())


class Speaker(nn.Module):
    """Names colours. Answers yes to what names the colour of the first picture; fails on black ones."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.calls, self.shapes, self.modes = [], [], []

    def caption(self, pictures):
        self.shapes += [one.shape for one in pictures]
        self.modes.append((self.training, torch.is_grad_enabled()))
        return [self.reply(colour_of(one), colour_of(one)) for one in pictures]

    def answer(self, pictures, questions, choices=None):
        self.calls.append(len(questions))
        replies = []
        for i, (several, question) in enumerate(zip(pictures, questions)):
            seen = [colour_of(one) for one in several]
            options = choices[i] if choices else []
            if "yes" in options:
                replies.append(self.reply(seen[0], "yes" if seen[0] in question else "no"))
            else:
                replies.append(self.reply(seen[0], next((o for o in options if o in seen), " and ".join(seen))))
        return replies

    @staticmethod
    def reply(seen, text):
        return Rejected("", "server error", "500") if seen == "black" else Reply(text, 0.9)


class Pairs:
    """A pair score: how often the text says the colour."""

    def __init__(self):
        self.calls = []

    def match(self, pictures, texts):
        self.calls.append(len(texts))
        return np.array([text.split().count(colour_of(one)) for one, text in zip(pictures, texts)], np.float32)


def test_a_dual_encoder_matches_by_cosines_and_embeds_each_thing_once():
    model = Toy()
    images = [picture("red"), picture("blue"), b"?", picture("green")]
    texts = [["red", "blue"], ["blue"], ["red"], []]
    found = tasks.match(model, images, texts, precision="fp32")
    assert found.kept == [0, 1, 3] and [bad.id for bad in found.rejected] == ["picture 2"]
    assert [scores.shape for scores in found.scores] == [(2,), (1,), (0,)]
    rows = tasks.embed_images(model, [images[0], images[1]], precision="fp32")
    words = tasks.embed_texts(model, ["red", "blue"], precision="fp32")
    assert np.allclose(found.scores[0], rows[0] @ words.T, atol=1e-6) and found.scores[0].dtype == np.float32
    assert np.allclose(found.scores[1], rows[1] @ words[1], atol=1e-6)
    model = Toy()
    tasks.match(model, images, texts)
    assert model.tower_calls == 1 and model.processor.decoded == 4  # one of them in vain
    assert model.processor.text_batches == [(2, 1)]  # red, blue: each once


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_pair_scorer_and_a_speaker_match_too(batch_size):
    images = [picture("red"), b"?", picture("blue")]
    texts = [["red red", "blue", "a red thing"], ["red"], ["blue", "green"]]
    pairs = Pairs()
    found = tasks.match(pairs, images, texts, batch_size=batch_size)
    assert [list(scores) for scores in found.scores] == [[2, 0, 1], [1, 0]] and found.kept == [0, 2]
    assert max(pairs.calls) <= batch_size and len(found.rejected) == 1
    found = tasks.match(Speaker(), images, texts, batch_size=batch_size)
    assert np.allclose(np.concatenate(found.scores), [0.9, 0.1, 0.9, 0.9, 0.1])


def test_without_confidence_yes_is_one_and_what_failed_is_told():
    model = SimpleNamespace(
        answer=lambda pictures, questions, choices: [
            Rejected("", "server error", "500") if "blue" in q else Reply("yes" if "red" in q else "no")
            for q in questions
        ]
    )
    found = tasks.match(model, [picture("red")] * 2, [["red", "green"], ["red", "blue"]])
    assert [list(scores) for scores in found.scores] == [[1, 0]]
    assert found.kept == [0] and found.rejected == [Rejected("picture 1", "server error", "500")]


def test_a_pair_score_goes_before_cosines():
    both = Toy()
    both.match = lambda pictures, texts: np.full(len(texts), 7, np.float32)
    assert tasks.match(both, [picture("red")], [["red"]]).scores[0] == [7]


def test_a_score_that_is_no_number_is_told_and_not_kept():
    nan = np.float32("nan")
    pairs = SimpleNamespace(match=lambda pictures, texts: np.array([nan if t == "?" else 1 for t in texts]))
    broken = Toy()
    broken.encode_text = lambda tokens, mask, plain=broken.encode_text: plain(tokens, mask) * nan
    found = tasks.match(pairs, [picture("red"), picture("blue")], [["a", "?"], ["a", "b"]])
    assert found.kept == [1] and found.rejected == [Rejected("picture 0", "score is no number")]
    found = tasks.match(broken, [picture("red"), picture("blue")], [["red"], []])
    assert found.kept == [1] and found.rejected == [Rejected("picture 0", "score is no number")]
    assert not tasks.answer(broken, [picture("red")], ["?"], ["red", "blue"]).replies


def test_captions_in_order_with_the_model_ready():
    model = Speaker().train()
    images = [picture("red"), b"?", picture("black"), picture("blue", size=(5, 9))]
    seen = []
    found = tasks.caption(model, images, batch_size=2, progress=lambda *at: seen.append(at))
    assert [reply.text for reply in found.replies] == ["red", "blue"] and found.kept == [0, 3]
    assert [(bad.id, bad.reason) for bad in found.rejected] == [
        ("picture 1", "image not recognised"),
        ("picture 2", "server error"),
    ]
    assert model.shapes == [(16, 24, 3), (16, 24, 3), (9, 5, 3)], "as they are: no processor"
    assert model.modes == [(False, False)] * 2 and model.training
    assert seen == [(2, 4), (4, 4)]


def test_a_model_with_a_processor_gets_pictures_as_it_decodes_them():
    model = Speaker()
    model.processor = Toy().processor
    tasks.caption(model, [picture("red")])
    assert model.shapes == [(8, 8, 3)]
    detector = SimpleNamespace(
        processor=model.processor, detect=lambda pictures, names: [[one.shape] for one in pictures]
    )
    assert tasks.detect(detector, [picture("red")], ["car"]).found == [[(16, 24, 3)]], "boxes are in its own pixels"


def test_answers_about_one_or_several_pictures():
    images = [picture("red"), [picture("red"), picture("blue")], (picture("green"),), [picture("red"), b"?"], []]
    found = tasks.answer(Speaker(), images, ["which?"] * 5, batch_size=2)
    assert [reply.text for reply in found.replies] == ["red", "red and blue", "green"] and found.kept == [0, 1, 2]
    assert [bad.reason for bad in found.rejected] == ["image not recognised", "image not supported"]
    choices = [["blue", "red"], ["blue", "green"], [], ["x"], ["x"]]
    found = tasks.answer(Speaker(), images, ["which?"] * 5, choices)
    assert [reply.text for reply in found.replies] == ["red", "blue", "green"]
    found = tasks.answer(Speaker(), images[:2], ["is it red?", "is it blue?"], ["yes", "no"])
    assert [reply.text for reply in found.replies] == ["yes", "no"]


def test_all_pictures_of_a_sample_are_asked_about(tmp_path):
    with DatasetWriter(tmp_path / "d") as writer:
        for id, names in (("one", ["red"]), ("two", ["blue", "green"]), ("none", [])):
            writer.write(Sample(id, [EncodedImage(encoded(picture(name))) for name in names], ["a caption"]))
    data = Dataset.open(tmp_path / "d")
    found = tasks.answer(Speaker(), data, ["which?"] * 3)
    assert [reply.text for reply in found.replies] == ["red", "blue and green"]
    assert [(bad.id, bad.reason) for bad in found.rejected] == [("none", "image missing")]
    with pytest.raises(InputError, match="Toy: compares one picture with texts"):
        tasks.answer(Toy(), data, ["which?"] * 3, ["red", "blue"])


def test_a_dual_encoder_chooses_by_likeness():
    model = Toy()
    model.processor.collate = lambda ids, images, texts, collate=model.processor.collate: collate(
        ids, images, None if texts is None else [text.replace(".", "") for text in texts]
    )
    images = [picture("red"), [picture("blue")], b"?"]
    choices = [["green", "red"], ["blue", "white", "red"], ["red"]]
    found = tasks.answer(model, images, ["which colour?"] * 3, choices, precision="fp32")
    assert [reply.text for reply in found.replies] == ["red", "blue"] and found.kept == [0, 1]
    row = tasks.embed_images(model, images[:1], precision="fp32")[0]
    words = tasks.embed_texts(model, [SENTENCE.format("which colour?", c) for c in choices[0]], precision="fp32")
    expected = torch.softmax(torch.from_numpy(100 * words @ row), 0)[1]
    assert found.replies[0].confidence == pytest.approx(float(expected), abs=1e-5)
    assert tasks.answer(Pairs(), images[:1], ["?"], [["red .", "blue"]]).replies[0] == (
        "red .",
        pytest.approx(np.e / (1 + np.e)),
    )


def test_a_picture_with_many_questions_is_decoded_and_embedded_once(tmp_path):
    data = dataset(tmp_path / "d", [("a", picture("red")), ("b", picture("blue")), ("bad", b"xxx")])
    rows = [0, 0, 0, 1, 1, 2, 2]
    model = Toy()
    widths = []
    model.tower.register_forward_hook(lambda module, inputs, output: widths.append(len(inputs[0])))
    found = tasks.match(model, data.select(rows), [["red"], ["blue"], ["green"], ["red"], ["blue"], ["red"], ["red"]])
    assert model.processor.decoded == 3 and widths == [2]
    alone = tasks.match(Toy(), data.select([0, 1]), [["red", "blue"], ["red", "blue"]])
    assert np.allclose([found.scores[i][0] for i in (0, 1, 3, 4)], np.concatenate(alone.scores), atol=1e-6)
    assert found.kept == [0, 1, 2, 3, 4] and [bad.id for bad in found.rejected] == ["bad", "bad"]
    path = tmp_path / "p.png"
    picture("red").save(path)
    model = Toy()
    tasks.match(model, [path, str(path), str(path), path, path], [["red"]] * 5)
    assert model.processor.decoded == 3


def test_detect_segment_draw():
    box = Detection("car", 0.5, (0.0, 0.0, 2.0, 3.0))
    model = SimpleNamespace(
        detect=lambda pictures, names: [[box._replace(name=name) for name in names] for _ in pictures],
        segment=lambda pictures, phrases: [np.full(p.shape[:2], len(t), np.float32) for p, t in zip(pictures, phrases)],
        draw=lambda texts, seed: [np.full((2, 2, 3), len(text) + seed, np.uint8) for text in texts],
    )
    images = [picture("red"), b"?", picture("blue", size=(4, 6))]
    found = tasks.detect(model, images, ["car", "bird"], batch_size=1)
    assert [[one.name for one in some] for some in found.found] == [["car", "bird"]] * 2
    assert found.kept == [0, 2] and len(found.rejected) == 1
    masks = tasks.segment(model, images, ["a", "b", "long"], batch_size=2)
    assert [(mask.shape, mask[0, 0]) for mask in masks.masks] == [((16, 24), 1), ((6, 4), 4)] and masks.kept == [0, 2]
    assert [int(drawn[0, 0, 0]) for drawn in tasks.draw(model, ["a", "bb", "c"], seed=5, batch_size=2)] == [6, 7, 6]


CALLS = [
    (lambda: tasks.caption(Toy(), [picture("red")]), "model Toy: cannot write captions; a family that writes"),
    (
        lambda: tasks.answer(Toy(), [picture("red")], ["?"]),
        "cannot answer questions without choices; a family that answers",
    ),
    (lambda: tasks.answer(Toy(), [picture("red")] * 2, ["?"] * 2, [["a"], []]), "without choices"),
    (lambda: tasks.answer(object(), [picture("red")], ["?"]), "model object: cannot answer questions; "),
    (lambda: tasks.match(object(), [picture("red")], [["a"]]), "cannot compare pictures with texts; a dual encoder"),
    (lambda: tasks.detect(Toy(), [picture("red")], ["car"]), "cannot detect objects"),
    (lambda: tasks.segment(Toy(), [picture("red")], ["car"]), "cannot segment pictures"),
    (lambda: tasks.draw(Toy(), ["car"]), "cannot draw pictures"),
    (lambda: tasks.match(Toy(), [picture("red")], ["red"]), "expected a list of candidate texts for each picture"),
    (lambda: tasks.match(Toy(), [picture("red")], []), "expected one list for each of 1 pictures, got 0"),
    (lambda: tasks.answer(Speaker(), [picture("red")], "what?"), "questions: expected one for each of 1 pictures"),
    (lambda: tasks.answer(Speaker(), [picture("red")], ["?"], [["a"], ["b"]]), "expected one list for each of 1 quest"),
    (lambda: tasks.answer(Speaker(), [picture("red")], ["?"], "yes"), "choices: expected a list of texts"),
    (lambda: tasks.answer(Speaker(), [picture("red")], ["?"], ["a", "a"]), "expected texts that differ"),
    (lambda: tasks.caption(Speaker(), "photo.jpg"), "got a single one"),
    (lambda: tasks.match(Toy(), [picture("red")], [["a"]], batch_size=0), "batch_size: expected at least 1, got 0"),
    (lambda: tasks.caption(SimpleNamespace(caption=lambda pictures: []), [picture("red")]), "gave 0 results for 1"),
]


@pytest.mark.parametrize(("call", "message"), CALLS)
def test_what_cannot_be_done_is_one_sentence(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_no_thread_is_left_when_the_model_fails():
    def caption(pictures):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        tasks.caption(SimpleNamespace(caption=caption), [picture("red")] * 50, batch_size=2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_the_public_verbs():
    images = [picture("red"), picture("blue")]
    assert [reply.text for reply in diptych.caption(Speaker(), images).replies] == ["red", "blue"]
    assert [reply.text for reply in diptych.answer(Speaker(), images, ["?"] * 2).replies] == ["red", "blue"]
    assert diptych.match(Toy(), images, [["red", "blue"]] * 2).scores[1].argmax() == 1
    model = SimpleNamespace(
        detect=lambda pictures, names: [[] for _ in pictures],
        segment=lambda pictures, phrases: [np.zeros((1, 1), np.float32) for _ in pictures],
        draw=lambda texts, seed: [np.zeros((1, 1, 3), np.uint8) for _ in texts],
    )
    assert diptych.detect(model, images, ["car"]).found == [[], []]
    assert len(diptych.segment(model, images, ["a", "b"]).masks) == 2 and len(diptych.draw(model, ["a"])) == 1
