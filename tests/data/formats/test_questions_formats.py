"""Questions: VQA, TextVQA, VizWiz, CLEVR, NLVR2 and GQA."""

import json

import pytest
from public_layouts import PROGRAM, dump, opened, picture, rejected

from diptych.data import open_dataset
from diptych.types import InputError, Object, Question, Relation


def changed(place, change):
    """A JSON file after `change` was done to its contents."""
    content = json.loads(place.read_text())
    change(content)
    dump(place, content)


# ---------------------------------------------------------------- VQA


def test_vqa_gathers_the_questions_of_a_picture(layout):
    found = opened(layout("vqa"))
    assert list(found) == ["COCO_test2015_000000000001", "COCO_train2014_000000458752", "COCO_train2014_000000262146"]
    sample = found["COCO_train2014_000000458752"]
    assert sample.questions == [
        Question("What is this photo taken looking through?", ["net"] * 9 + ["netting"], "other", "458752000"),
        Question("How many players?", ["1", "2"] * 5, "number", "458752001"),
    ]
    assert json.loads(sample.texts["question_types"]) == ["what is this", "how many"]
    assert (sample.split, sample.license) == ("train", "Attribution 4.0")
    held = found["COCO_test2015_000000000001"]  # test-dev asks about pictures of the test split
    assert (held.split, held.questions[0].answers, held.texts) == ("test-dev", [], {})


def test_vqa_options_and_files(layout):
    root = layout("vqa")
    assert len(opened(f"vqa:{root}?split=train2014")) == len(opened(f"vqa:{root}?split=train")) == 2
    assert len(opened(root / "v2_OpenEnded_mscoco_train2014_questions.json")) == 2
    with pytest.raises(InputError, match="no split 'val'; it has test-dev, train"):
        open_dataset(f"vqa:{root}?split=val")
    for place in root.glob("*.json"):  # as COCO keeps its own
        dump(root / "annotations" / place.name, json.loads(place.read_text()))
        place.unlink()
    assert len(opened(root)) == 3
    assert len(opened(root / "annotations" / "v2_OpenEnded_mscoco_train2014_questions.json")) == 2


def test_vqa_v1_gets_its_choices_from_the_other_file(layout):
    found = opened(f"vqa:{layout('vqa_v1')}?split=train")
    questions = [question for sample in found.values() for question in sample.questions]
    assert len(questions) == 3
    assert all(question.choices == ["net", "yes", "1", "blue"] and question.answers for question in questions)


def test_vqa_abstract_scenes(layout):
    root = layout("vqa")
    for kind in ("questions", "annotations"):
        old = root / f"v2_{'OpenEnded_' * (kind == 'questions')}mscoco_train2014_{kind}.json"
        content = json.loads(old.read_text()) | {"data_type": "abstract_v002", "data_subtype": "train2015"}
        dump(root / old.name.replace("v2_", "").replace("mscoco_train2014", "abstract_v002_train2015"), content)
        old.unlink()
    for id in (458752, 262146):
        picture(root / "images" / f"abstract_v002_train2015_{id:012d}.png", id)
    ids = list(opened(f"vqa:{root}?split=train"))
    assert ids == ["abstract_v002_train2015_000000458752", "abstract_v002_train2015_000000262146"]


def test_vqa_dangling_ids_and_bad_rows_cost_themselves_only(layout):
    root = layout("vqa")

    def answers(content):
        good = content["annotations"][0]
        content["annotations"] = [
            good,
            good | {"question_id": 99},
            content["annotations"][1] | {"answers": "yes"},
            7,
        ]

    def questions(content):
        content["questions"] += [content["questions"][0], {"question_id": 5}, {"question_id": 6, "image_id": 1}]

    changed(root / "v2_mscoco_train2014_annotations.json", answers)
    changed(root / "v2_OpenEnded_mscoco_train2014_questions.json", questions)
    dataset = open_dataset(f"vqa:{root}?split=train")
    assert [question.id for sample in dataset for question in sample.questions] == ["458752000"]
    asked, given = "v2_OpenEnded_mscoco_train2014_questions.json", "v2_mscoco_train2014_annotations.json"
    assert {row.id: row.reason for row in dataset.quarantine()} == {
        f"{asked}: question 458752000": "duplicate id",
        f"{asked}: question 5": "field missing",
        f"{asked}: question 6": "field missing",
        f"{given}: question 99": "dangling id",
        f"{given}: question 262146000": "wrong type",
        f"{given}: question ?": "wrong type",
        "458752001": "dangling id",
    }


def test_a_missing_picture_costs_its_own_questions_only(layout):
    root = layout("vqa")
    (root / "train2014" / "COCO_train2014_000000262146.jpg").unlink()
    ids, gone = rejected(f"vqa:{root}?split=train")
    assert ids == ["COCO_train2014_000000458752"]
    assert gone == {"COCO_train2014_000000262146": "image missing"}


def test_vqa_questions_that_are_no_list(layout):
    root = layout("vqa")
    changed(root / "v2_OpenEnded_mscoco_train2014_questions.json", lambda content: content.update(questions={}))
    with pytest.raises(InputError, match=r"train2014_questions\.json: questions: expected a list, got dict"):
        open_dataset(root)


# ---------------------------------------------------------------- TextVQA and VizWiz


def test_textvqa(layout):
    found = opened(layout("textvqa"))
    sample = found["003a8a"]
    assert [question.id for question in sample.questions] == ["34600", "34601"]
    assert sample.questions[0].answers == ["dakota"] * 8 + ["dakota digital", "clos culombu"]
    assert (sample.tags, sample.split) == (["Belt", "Footwear"], "train")
    assert (found["b2"].split, found["b2"].questions[0].answers) == ("test", [])
    assert list(opened(f"textvqa:{layout('textvqa')}?split=test")) == ["b2"]


def test_bad_rows_of_textvqa(layout):
    root = layout("textvqa")

    def bad(content):
        good = content["data"][0]
        content["data"] += ["x", good | {"answers": [1]}, good | {"question_id": None}, good | {"image_id": "gone"}]

    changed(root / "TextVQA_0.5.1_train.json", bad)
    ids, gone = rejected(f"textvqa:{root}?split=train")
    assert ids == ["003a8a"]
    assert list(gone.values()) == ["wrong type", "wrong type", "field missing", "image missing"]


def test_vizwiz_says_what_is_answerable(layout):
    found = opened(layout("vizwiz"))
    (first,) = found["VizWiz_train_00000000.jpg"].questions
    (second,) = found["VizWiz_train_00000001.jpg"].questions
    (held,) = found["VizWiz_test_00000000.jpg"].questions
    assert (first.answerable, first.kind, first.answers) == (True, "other", ["basil leaves"] * 6 + ["basil"] * 4)
    assert (second.answerable, second.kind) == (False, "unanswerable")
    assert (held.answerable, held.answers) == (None, [])
    assert {sample.split for sample in found.values()} == {"train", "test"}


def test_vizwiz_of_the_older_layout(layout):
    root = layout("vizwiz")
    (root / "Annotations").mkdir()
    (root / "Images").mkdir()
    (root / "train.json").rename(root / "Annotations" / "train.json")
    (root / "test.json").unlink()
    for place in (root / "train").iterdir():
        place.rename(root / "Images" / place.name)
    assert len(opened(root)) == len(opened(root / "Annotations" / "train.json")) == 2


def test_bad_rows_of_vizwiz(layout):
    root = layout("vizwiz")
    good = json.loads((root / "test.json").read_text())[0]
    bad = [good | {"answerable": 2}, good | {"answers": [{"text": "x"}]}, good | {"image": None}, []]
    dump(root / "test.json", [good, *bad])
    ids, gone = rejected(f"vizwiz:{root}?split=test")
    assert ids == ["VizWiz_test_00000000.jpg"]
    assert list(gone.values()) == ["wrong type", "field missing", "field missing", "wrong type"]


# ---------------------------------------------------------------- CLEVR


def test_clevr_scenes_and_programs(layout):
    found = opened(layout("clevr"))
    sample = found["CLEVR_train_000000"]
    assert sample.objects == [
        Object("cylinder", attributes=["large", "brown", "rubber"], id="0"),
        Object("cube", attributes=["small", "gray", "metal"], id="1"),
    ]
    # relationships["right"][0] == [1]: the cube is right of the cylinder
    assert sample.relations == [Relation(1, "right", 0), Relation(0, "left", 1)]
    assert [(q.kind, q.answers, q.id) for q in sample.questions] == [("count", ["1"], "7"), ("exist", ["no"], "7")]
    assert json.loads(sample.questions[0].program) == PROGRAM
    assert json.loads(sample.texts["scene"])["objects"][0]["pixel_coords"] == [3, 2, 11.4]
    held = found["CLEVR_test_000000"]
    assert (held.split, held.objects, held.questions[0].answers) == ("test", [], [])


def test_cogent_keeps_its_own_split_names(layout):
    root = layout("cogent")
    assert {sample.split for sample in opened(root).values()} == {"trainA", "valB"}
    assert list(opened(f"clevr:{root}?split=valB")) == ["CLEVR_valB_000000"]


def test_clevr_files_by_themselves(layout):
    root = layout("clevr")
    assert opened(root / "scenes" / "CLEVR_train_scenes.json")["CLEVR_train_000000"].questions == []
    assert opened(root / "questions" / "CLEVR_train_questions.json")["CLEVR_train_000000"].objects == []


def test_a_bad_scene_leaves_its_questions(layout):
    root = layout("clevr")

    def bad(content):
        content["scenes"][0]["relationships"]["left"] = [[7], []]
        content["scenes"].append({"image_filename": 3})

    changed(root / "scenes" / "CLEVR_train_scenes.json", bad)
    changed(root / "questions" / "CLEVR_train_questions.json", lambda content: content["questions"].append({"a": 1}))
    dataset = open_dataset(f"clevr:{root}?split=train")
    assert [len(sample.questions) for sample in dataset] == [2]
    assert [row.reason for row in dataset.quarantine()] == ["field missing", "dangling id", "wrong type"]


# ---------------------------------------------------------------- NLVR2


def test_nlvr2_has_two_pictures_and_groups(layout):
    found = opened(layout("nlvr2"))
    assert list(found) == ["dev-850-0-0", "dev-850-2-0", "train-10171-0-0"]
    train = found["train-10171-0-0"]
    assert [image.path for image in train.images] == [f"images/train/74/train-10171-0-img{n}.png" for n in (0, 1)]
    statement = "The right image shows a curving walkway of dark glass circles."
    assert train.questions == [Question(statement, ["False"], "nlvr2", train.id, ["True", "False"])]
    assert found["dev-850-0-0"].group == found["dev-850-2-0"].group != train.group
    assert (found["dev-850-2-0"].split, found["dev-850-2-0"].texts["synset"]) == ("validation", "beer bottle")
    assert len(opened(f"nlvr2:{layout('nlvr2')}?split=train")) == 1


def test_bad_rows_of_nlvr2(layout):
    root = layout("nlvr2")
    (root / "images" / "dev" / "dev-850-2-img1.png").unlink()
    good = json.loads((root / "data" / "dev.json").read_text().splitlines()[0])
    rows = [good | {"label": "Maybe"}, good | {"identifier": "850"}, good | {"sentence": 1}, 5]
    with (root / "data" / "dev.json").open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows) + '{"identifier": "dev-1-0-0", "sen')
    ids, gone = rejected(f"nlvr2:{root}?split=dev")
    assert ids == ["dev-850-0-0"]
    assert gone == {
        "dev-850-2-0": "image missing",
        **dict.fromkeys(("dev.json:3", "dev.json:4", "dev.json:5"), "wrong type"),
        **dict.fromkeys(("dev.json:6", "dev.json:7"), "row broken"),
    }


# ---------------------------------------------------------------- GQA


def test_gqa_with_scene_graph(layout):
    found = opened(layout("gqa"))
    sample = found["2375429"]
    (question,) = sample.questions
    assert (question.id, question.answers, question.kind) == ("07333408", ["brown"], "query")
    assert json.loads(question.program)[1]["operation"] == "query"
    assert json.loads(sample.texts["full_answers"]) == ["The cow is brown."]
    assert sample.objects == [
        Object("cow", (1, 2, 4, 6), None, ["brown"], "681267"),
        Object("grass", (0, 3, 8, 6), None, [], "681268"),
    ]
    assert sample.relations == [Relation(0, "to the left of", 1)]
    assert (found["n161313"].split, found["n161313"].objects) == ("test", [])


def test_gqa_balanced_or_all(layout):
    root = layout("gqa")
    assert len(opened(f"gqa:{root}?split=train&questions=all")["2375429"].questions) == 2
    assert len(opened(f"gqa:{root}?split=train&questions=balanced")["2375429"].questions) == 1
    assert list(opened(root / "questions" / "test_balanced_questions.json")) == ["n161313"]
    with pytest.raises(InputError, match="option 'questions': expected balanced or all"):
        open_dataset(f"gqa:{root}?questions=some")


def test_bad_rows_of_gqa(layout):
    root = layout("gqa")
    graphs = root / "sceneGraphs" / "train_sceneGraphs.json"
    relations = [{"object": "gone", "name": "near"}, {"object": "681268", "name": "on"}]
    changed(graphs, lambda content: content["2375429"]["objects"]["681267"].update(relations=relations))
    changed(root / "questions" / "train_balanced_questions.json", lambda content: content.update(a=1, b={"imageId": 3}))
    dataset = open_dataset(f"gqa:{root}?split=train")
    assert [relation.predicate for relation in dataset[0].relations] == ["on"]
    assert {row.id: row.reason for row in dataset.quarantine()} == {
        "a": "wrong type",
        "b": "field missing",
        "2375429/681267": "dangling id",
    }
    changed(graphs, lambda content: content["2375429"]["objects"]["681267"].update(w="wide"))
    dataset = open_dataset(f"gqa:{root}?split=train")
    assert dataset[0].objects == [] and len(dataset[0].questions) == 1
    assert "2375429: scene graph" in {row.id for row in dataset.quarantine()}
