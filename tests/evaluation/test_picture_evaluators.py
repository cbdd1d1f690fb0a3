"""detect, segment and draw by hand: empty pictures, crowds, expressions, odd output, wrong masks, drawn scenes."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from colours import Oracle, dataset, picture

from diptych.data import masks, open_dataset
from diptych.evaluation import draw as drawing
from diptych.evaluation.detect import evaluate_detect
from diptych.evaluation.draw import evaluate_draw
from diptych.evaluation.judged import differences
from diptych.evaluation.report.build import evaluation_report
from diptych.evaluation.report.render import render
from diptych.evaluation.score import score_detections
from diptych.evaluation.segment import evaluate_segment
from diptych.images import decode
from diptych.types import Detection, EncodedImage, InputError, Object, Region, Rejected, Sample

WIDTH, HEIGHT = 12, 9  # of the pictures


def scene(id, colour, objects=(), regions=(), data=None):
    image = EncodedImage(picture(colour) if data is None else data)
    return Sample(id, [image], objects=list(objects), regions=list(regions))


class Finder:
    """Finds what a table has for the colour of the picture, of the classes that are asked for."""

    def __init__(self, table):
        self.table = {np.asarray(decode(picture(colour)))[0, 0].tobytes(): found for colour, found in table.items()}

    def detect(self, pictures, names):
        return [[one for one in self.table.get(p[0, 0].tobytes(), []) if one.name in names] for p in pictures]


CAT, DOG = (0, 0, 4, 4), (6, 4, 12, 8)
TRUTH = [
    scene("a", "red", [Object("cat", CAT), Object("dog", DOG)], [Region("the left one", CAT, 0)]),
    scene("b", "blue", [Object("cat", DOG)], [Region("the cat", DOG, 0), Region("a place", CAT)]),
    scene("empty", "white"),
    scene("crowd", "grey", [Object("cat", CAT, kind="crowd"), Object("sky", CAT, kind="stuff")]),
    scene("broken", "red", [Object("cat", CAT)], data=b"no picture"),
]  # fmt: skip
TRUTH[0].regions += [Region("twin", CAT, 0), Region("twin", DOG, 1)]  # stands for two things: refers to neither
RIGHT = {
    "red": [Detection("cat", 0.9, CAT), Detection("dog", 0.8, DOG), Detection("the left one", 0.7, (0, 0, 4, 3))],
    "blue": [Detection("cat", 0.9, DOG), Detection("the cat", 0.2, DOG), Detection("the cat", 0.9, CAT)],
    "grey": [Detection("cat", 0.99, (1, 1, 3, 3))],  # within a crowd: does not count
}


def test_detection_by_hand(tmp_path):
    judged = evaluate_detect(Finder(RIGHT), dataset(tmp_path / "d", TRUTH))
    assert {name: round(one.value, 6) for name, one in judged.estimates.items()} == {
        "detect/ap": 1, "detect/ap50": 1, "detect/ap75": 1, "detect/ap[cat]": 1, "detect/ap[dog]": 1,
        "detect/referring@0.5": 0.5,  # the surest "the cat" is elsewhere
    }  # fmt: skip
    assert judged.estimates["detect/ap"].n == 4 and judged.estimates["detect/referring@0.5"].n == 2
    assert [bad.id for bad in judged.rejected] == ["broken"]
    assert judged.values["detect/referring@0.5"].rows.tolist() == [0, 1]
    worst = judged.worst(1)[0]
    assert (worst.row, worst.asked, worst.score) == (1, "the cat", 0.0)
    assert [thing.name for thing in worst.things] == ["found", "true"]
    assert [case.score for case in judged.cases if case.asked == "all classes"] == [1, 1]
    assert "1 cat, 2 dog" in " ".join(judged.notes)


def test_false_alarms_on_empty_pictures_count(tmp_path):
    alarmed = {**RIGHT, "white": [Detection("cat", 1.0, CAT)]}
    data = dataset(tmp_path / "d", TRUTH)
    found = evaluate_detect(Finder(alarmed), data).estimates
    assert found["detect/ap[cat]"].value == pytest.approx(2 / 3, abs=0.01) and found["detect/ap[dog]"].value == 1


def test_detectors_are_compared_by_ap(tmp_path):
    rng = np.random.default_rng(0)
    colours = ["red", "blue", "green", "pink", "black", "white", "orange", "grey"]
    data = dataset(tmp_path / "d", [scene(str(i), colours[i % 8], [Object("cat", CAT)]) for i in range(40)])
    good = Finder({colour: [Detection("cat", rng.random(), CAT)] for colour in colours})
    bad = Finder({colour: [Detection("cat", rng.random(), CAT if i < 4 else DOG)] for i, colour in enumerate(colours)})
    results = {name: evaluate_detect(one, data) for name, one in (("good", good), ("same", good), ("bad", bad))}
    found = differences(results)
    assert found["same"]["detect/ap"].estimate.value == 0 and found["same"]["detect/ap"].p == 1
    assert found["bad"]["detect/ap"].estimate.high < -0.2 and found["bad"]["detect/ap"].p < 0.01


class Unwell(Finder):
    """Gives nothing for pictures of one colour, as a server may."""

    def __init__(self, table, colour):
        super().__init__(table)
        self.lost = np.asarray(decode(picture(colour)))[0, 0].tobytes()

    def detect(self, pictures, names):
        lost = Rejected("", "server error")
        return [
            lost if p[0, 0].tobytes() == self.lost else found
            for p, found in zip(pictures, super().detect(pictures, names))
        ]


def test_detectors_are_compared_on_pictures_that_both_were_judged_on(tmp_path):
    colours = ["red", "blue", "green", "pink", "black", "white"]
    objects = [[Object("cat", DOG if colour == "blue" else CAT)] for colour in colours]
    data = dataset(tmp_path / "d", [scene(c, c, some) for c, some in zip(colours, objects)])
    right = {colour: [Detection("cat", 0.9, some[0].box)] for colour, some in zip(colours, objects)}
    wrong = {**right, "pink": [Detection("cat", 0.9, DOG)], "red": [Detection("cat", 0.9, DOG)]}
    first, second = evaluate_detect(Unwell(right, "red"), data), evaluate_detect(Unwell(wrong, "blue"), data)
    assert first.matches.images.tolist() == [1, 2, 3, 4, 5] and second.matches.images.tolist() == [0, 2, 3, 4, 5]
    found = differences({"first": first, "second": second})["second"]["detect/ap"].estimate
    assert found.n == 4 and -1 < found.value < 0, "of green, pink, black and white, pink is wrong"
    apart = [evaluate_detect(Finder(right), data.select(some)) for some in ([0], [1])]
    apart[1] = replace(apart[1], matches=replace(apart[1].matches, images=np.array([1])))
    assert differences({"first": apart[0], "second": apart[1]})["second"] == {}


def test_odd_detections(tmp_path):
    data = dataset(tmp_path / "d", TRUTH[:2])
    odd = {"red": [Detection("cat", np.float32(0.9), (4, 4, 0, 0)), Detection("cat", 0.5, tuple(np.float32(CAT)))]}
    judged = evaluate_detect(Finder(odd), data)
    assert 0 < judged.estimates["detect/ap[cat]"].value < 1  # a box inside out meets nothing
    assert len(json.dumps(judged.predictions.entries)) > 50
    assert evaluate_detect(Finder({}), data).estimates["detect/ap"].value == 0
    for lost in (Detection("cat", 0.9, (math.nan, 0, 1, 1)), Detection("cat", math.inf, CAT)):
        judged = evaluate_detect(Finder({**RIGHT, "red": [lost]}), data)
        assert judged.left_out() == {"box or score is no number": 1} and judged.estimates["detect/ap"].n == 1
        with pytest.raises(InputError, match="none of 1 pictures with boxes could be judged: 1 box or score is no nu"):
            evaluate_detect(Finder({"red": [lost]}), data.select([0]))


def test_expressions_without_an_answer_are_left_out(tmp_path):
    nan = Detection("the cat", math.nan, CAT)
    judged = evaluate_detect(
        Finder({**RIGHT, "blue": [Detection("cat", 0.9, DOG), nan]}), dataset(tmp_path / "d", TRUTH[:2])
    )
    assert judged.left_out() == {"box or score is no number": 1} and judged.estimates["detect/ap"].n == 2
    assert judged.estimates["detect/referring@0.5"][:1] == (1.0,) and judged.estimates["detect/referring@0.5"].n == 1

    class Busy(Finder):
        def detect(self, pictures, names):
            return (
                [Rejected("", "server error")] * len(pictures)
                if names == ["the cat"]
                else super().detect(pictures, names)
            )

    judged = evaluate_detect(Busy(RIGHT), dataset(tmp_path / "e", TRUTH[:2]))
    assert judged.left_out() == {"server error": 1} and judged.estimates["detect/referring@0.5"].n == 1


def test_detection_refusals(tmp_path):
    data = dataset(tmp_path / "d", TRUTH)
    with pytest.raises(InputError, match="objects: no sample has one with a box"):
        evaluate_detect(Finder({}), data.select([2, 3]))
    with pytest.raises(InputError, match="none of 1 pictures with boxes could be judged: 1 image"):
        evaluate_detect(Finder({}), data.select([4]))
    with pytest.raises(InputError, match="cannot detect objects"):
        evaluate_detect(object(), data)


def test_detections_are_scored_to_the_same_numbers(tmp_path):
    data = dataset(tmp_path / "d", [*TRUTH[:4], scene("7", "green", [Object("bird", CAT)])])
    found = {**RIGHT, "white": [Detection("dog", 0.85, DOG)], "green": [Detection("bird", 0.4, (0, 0, 4, 3))]}
    judged = evaluate_detect(Finder(found), data, seed=5)
    file = tmp_path / "detections_results.json"
    file.write_text(json.dumps(judged.predictions.entries))
    scored = score_detections(file, str(tmp_path / "d"), seed=5).estimates
    same = {name: one for name, one in judged.estimates.items() if name != "detect/referring@0.5"}
    np.testing.assert_equal(
        {name: tuple(scored[name]) for name in same}, {name: tuple(one) for name, one in same.items()}
    )
    assert len(same) == 6
    assert f"{scored['detect/ar_100'].value:.3f}" in judged.notes[0] and math.isnan(scored["detect/ar_100"].low)
    assert {one["image_id"] for one in judged.predictions.entries} == {"a", "b", "empty", "crowd", 7}


# ---------------------------------------------------------------- segment


def box_mask(x0, y0, x1, y1, height=HEIGHT, width=WIDTH):
    pixels = np.zeros((height, width), bool)
    pixels[y0:y1, x0:x1] = True
    return masks.encode(pixels)


class Painter:
    """Gives a phrase the probability 0.9 within its box."""

    def __init__(self, boxes):
        self.boxes = boxes

    def segment(self, pictures, phrases):
        found = []
        for one, phrase in zip(pictures, phrases):
            score = np.zeros(one.shape[:2], np.float32)
            if phrase in self.boxes:
                x0, y0, x1, y1 = self.boxes[phrase]
                score[y0:y1, x0:x1] = 0.9
            found.append(score)
        return found


def masked(id, regions=(), data=None, mask=None):
    cat = Object("cat", CAT, box_mask(*CAT) if mask is None else mask)
    return scene(id, "red", [cat, Object("dog", DOG, box_mask(*DOG))], regions, data)


def test_segmentation_by_hand(tmp_path):
    samples = [
        masked("a", [Region("it", CAT, 0), Region("that", DOG, 1), Region("where", CAT)]),
        masked("broken", data=b"no picture"),
        masked("odd", mask=box_mask(0, 0, 4, 4, 20, 20)),
        scene("plain", "blue", [Object("cat", CAT)]),
        Sample("blind", objects=[Object("cat", CAT, box_mask(*CAT))]),
    ]
    data = dataset(tmp_path / "d", samples)
    judged = evaluate_segment(Painter({"cat": (0, 0, 4, 4), "dog": (6, 4, 9, 8), "it": (0, 0, 4, 2)}), data)
    # 16 pixels of cat, all right; 24 of dog, 12 right; 68 of ground, with the missed dog 80
    assert judged.estimates["segment/miou"].value == pytest.approx((1 + 12 / 24 + 68 / 80) / 3)
    assert judged.estimates["segment/miou"].n == 1
    assert judged.estimates["segment/referring_iou"].value == pytest.approx((0.5 + 0) / 2)
    assert judged.estimates["segment/referring@0.5"].value == 0.5 and judged.estimates["segment/referring@0.5"].n == 2
    assert [bad.id for bad in judged.rejected] == ["broken", "blind", "odd"]
    assert judged.left_out()["sample without a mask"] == 1
    assert judged.left_out()["mask of another size than the picture"] == 1
    assert judged.worst(1)[0].asked == "that" and judged.worst(1)[0].said == "nothing"


def test_many_pictures_are_segmented_in_parts(tmp_path):
    data = dataset(tmp_path / "d", [masked(str(i), [Region("it", CAT, 0)]) for i in range(9)])
    done = []
    judged = evaluate_segment(
        Painter({"cat": CAT, "dog": DOG, "it": CAT}), data, progress=lambda *now: done.append(now)
    )
    assert judged.estimates["segment/miou"].low == pytest.approx(0.025 ** (1 / 9))
    assert judged.estimates["segment/miou"].value == 1 and judged.estimates["segment/referring_iou"].n == 9
    assert done == [(4, 9), (8, 9), (9, 9)]


def test_segmenters_are_compared_by_miou(tmp_path):
    data = dataset(tmp_path / "d", [masked(str(i)) for i in range(4)])
    right, half = (evaluate_segment(Painter({"cat": CAT, "dog": dog}), data) for dog in (DOG, (6, 4, 9, 8)))
    found = differences({"right": right, "half": half})["half"]["segment/miou"]
    assert found.estimate.value == pytest.approx(half.estimates["segment/miou"].value - 1) and found.estimate.n == 4
    assert found.p == pytest.approx(1 / 8, abs=0.03)  # two of the sixteen tosses are as far


def test_more_classes_than_a_byte_holds(tmp_path):
    pixels = [(i % WIDTH, i // WIDTH, i % WIDTH + 1, i // WIDTH + 1) for i in range(100)]
    things = [[Object(f"class {p}{i:02}", box, box_mask(*box)) for i, box in enumerate(pixels)] for p in range(3)]
    data = dataset(tmp_path / "d", [scene(str(i), "red", some) for i, some in enumerate(things)])
    # 8 pixels of each picture are ground, and everything is taken for ground: no class is right
    miou = evaluate_segment(Painter({}), data).estimates["segment/miou"].value
    assert miou == pytest.approx(3 * 8 / (3 * WIDTH * HEIGHT) / 301)


def test_scores_that_are_no_numbers_are_left_out(tmp_path):
    class Ill(Painter):
        def segment(self, pictures, phrases):
            found = super().segment(pictures, phrases)
            return [score * (np.nan if one[0, 0, 0] < 100 else 1) for one, score in zip(pictures, found)]

    blue = [Object("cat", CAT, box_mask(*CAT))]
    data = dataset(tmp_path / "d", [masked("good"), scene("ill", "blue", blue)])
    judged = evaluate_segment(Ill({"cat": CAT, "dog": DOG}), data)
    assert judged.left_out()["score is no number"] == 1 and judged.estimates["segment/miou"].n == 1


def test_segmentation_refusals(tmp_path):
    data = dataset(tmp_path / "d", [scene("a", "red", [Object("cat", CAT)]), masked("b", data=b"no picture")])
    with pytest.raises(InputError, match="objects: no sample has one with a mask"):
        evaluate_segment(Painter({}), data.select([0]))
    with pytest.raises(InputError, match="none of 1 pictures could be judged"):
        evaluate_segment(Painter({}), data)
    with pytest.raises(InputError, match="cannot segment pictures"):
        evaluate_segment(object(), data)


# ---------------------------------------------------------------- draw


class Colourist:
    """Draws the colour that a text names."""

    def draw(self, texts, seed=0):
        return [np.asarray(decode(picture(text.split()[-1]))) for text in texts]


def test_drawing_for_a_judge(tmp_path):
    data = dataset(
        tmp_path / "d",
        [Sample(c, [EncodedImage(picture(c))], captions=["x", f"all {c}"]) for c in ("red", "blue", "green")]
        + [Sample("mute", [EncodedImage(picture("red"))])],
    )
    judged = evaluate_draw(Colourist(), data, judge=Oracle())
    assert judged.estimates["draw/clip_score"][0] == pytest.approx(2.5)
    assert judged.estimates["draw/clip_score"].chance == 0
    assert judged.estimates["draw/finds_own_caption"].value == 1
    assert judged.estimates["draw/finds_own_caption"].chance == pytest.approx(1 / 3)
    assert judged.left_out() == {"sample without a caption": 1}
    assert np.asarray(decode(judged.cases[1].drawn))[0, 0].tolist() == list(np.asarray(decode(picture("blue")))[0, 0])
    with pytest.raises(InputError, match="expected scenes, whose drawings are read back, or a dual encoder"):
        evaluate_draw(Colourist(), data)
    with pytest.raises(InputError, match="two or more samples"):
        evaluate_draw(Colourist(), data.select([0, 3]), judge=Oracle())
    with pytest.raises(InputError, match="cannot draw"):
        evaluate_draw(object(), data, judge=Oracle())


def test_drawn_scenes_are_read_back(monkeypatch):
    data = open_dataset("scenes:?n=4&size=32&objects=2-3")
    samples = data.take(range(4))
    by_text = {max(one.captions, key=len): np.asarray(decode(one.images[0].data)) for one in samples}
    from diptych.data.scenes.sample import from_json

    things = {np.asarray(decode(one.images[0].data)).tobytes(): from_json(one.texts["scene"]).things for one in samples}
    monkeypatch.setattr(drawing, "parse", lambda shown, style: things[shown.tobytes()])  # the parser has its own tests

    class Right:
        def draw(self, texts, seed=0):
            return [by_text[text] for text in texts]

    judged = evaluate_draw(Right(), data)
    assert judged.estimates["draw/things_f1"].value == 1 and judged.estimates["draw/things_f1"].chance < 0.6
    assert judged.cases[0].said == judged.cases[0].truth != ""


# ---------------------------------------------------------------- the page


def test_the_page_shows_boxes_masks_and_drawings(tmp_path):
    data = dataset(tmp_path / "d", TRUTH)
    judged = evaluate_detect(Finder(RIGHT), data)
    page = render(evaluation_report({"d": {"m": judged}}, {"d": data}, ["m is better"]))
    assert "Expression finds its thing" in page and "the box “found”" in page and "IoU with the true box" in page
    assert page.count("data:image/jpeg;base64") >= 3 and "image truncated" not in page
    segmented = dataset(tmp_path / "s", [masked("a", [Region("it", CAT, 0)])])
    result = evaluate_segment(Painter({"it": CAT}), segmented)
    assert "the tinted pixels, 16" in render(evaluation_report({"s": {"m": result}}, {"s": segmented}))
