"""Small data sets in the layouts in which the real ones are published: every file name and field as there."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(place: Path, seed: int = 0) -> bytes:
    """A tiny real picture of its own colour, of the kind that its name says."""
    image = Image.new("RGB", (8, 6), (40 * seed % 256, 90, 255 - 30 * seed % 256))
    stream = io.BytesIO()
    image.save(stream, "PNG" if place.suffix == ".png" else "JPEG")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(stream.getvalue())
    return stream.getvalue()


def dump(place: Path, value: Any) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(value))
    return place


def lines(place: Path, *records: Any) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("".join(json.dumps(record) + "\n" for record in records))
    return place


# ---------------------------------------------------------------- captions


def flickr30k(root: Path) -> None:
    rows = []
    for i, name in enumerate(("1000092795.jpg", "10002456.jpg")):
        picture(root / "flickr30k-images" / name, i)
        rows += [f"{name}#{n}\tCaption {n} of {name} , with a comma ." for n in range(5)]
    (root / "results_20130124.token").write_text("\n".join(rows) + "\n")


def flickr30k_csv(root: Path) -> None:
    """As on Kaggle: bars, a table beside a folder of its own name, and the line that has no bar before its caption."""
    text = "image_name| comment_number| comment\n"
    for i, name in enumerate(("1000092795.jpg", "2199200615.jpg")):
        picture(root / "flickr30k_images" / "flickr30k_images" / name, i)
        for n in range(5):
            bar = "| " if (name, n) != ("2199200615.jpg", 4) else "   "
            text += f"{name}| {n}{bar}A dog runs across the grass {n} .\n"
    (root / "flickr30k_images" / "results.csv").write_text(text)


def flickr8k_csv(root: Path) -> None:
    picture(root / "Flicker8k_Dataset" / "1000268201_693b08cb0e.jpg")
    (root / "captions.txt").write_text(
        "image,caption\n"
        "1000268201_693b08cb0e.jpg,A child in a pink dress is climbing up stairs .\n"
        '1000268201_693b08cb0e.jpg,"A girl, going into a ""wooden"" building ."\n'
    )


CC_URL = "http://lh6.ggpht.com/-IvRtNLNcG8o/TpFyrudaT6I/image.jpg"


def cc3m(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "Train_GCC-training.tsv").write_text(
        f"a very typical bus station\t{CC_URL}\nsierra looked stunning in this top\thttps://b.test/2.png?x=1\n"
    )
    (root / "Validation_GCC-1.1.0-Validation.tsv").write_text("author : a life in photography\thttps://i.test/3.jpg\n")


def cc12m(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "cc12m.tsv").write_text(f"{CC_URL}\tMetal Design Within Reach Ivory Slipper Chairs\n")


def redcaps(root: Path) -> None:
    def post(id: str, **more: Any) -> dict[str, Any]:
        return {
            "image_id": id,
            "author": "djasz1",
            "image_url": f"https://i.redd.it/{id}.jpg",
            "url": f"https://i.redd.it/{id}.jpg",
            "raw_caption": f"Itap of a bridge {id} [OC]",
            "caption": f"itap of a bridge {id}",
            "subreddit": "itookapicture",
            "score": 12,
            "created_utc": 1494788220,
            "permalink": f"/r/itookapicture/comments/{id}/",
            "crosspost_parents": None,
            **more,
        }

    info = {"info": {"url": "https://redcaps.xyz", "start_date": "2017-01-01", "end_date": "2017-12-31"}}
    posts = [post("bppyj1"), post("bppyj2", crosspost_parents=["abc123"])]
    dump(root / "annotations" / "itookapicture_2017.json", info | {"annotations": posts})
    picture(root / "images" / "itookapicture" / "bppyj1.jpg")


OPEN_IMAGES = {
    "image_classes": ["Belt", "Footwear"],
    "flickr_original_url": "https://farm2.staticflickr.com/1/2_o.jpg",
    "flickr_300k_url": "https://c2.staticflickr.com/1/2_z.jpg",
    "image_width": 8,
    "image_height": 6,
}


def textcaps(root: Path) -> None:
    def data(split: str, *records: dict[str, Any]) -> None:
        head = {"dataset_type": split, "dataset_name": "textcaps", "dataset_version": "0.1"}
        rows = [OPEN_IMAGES | record | {"set_name": split} for record in records]
        dump(root / f"TextCaps_0.1_{split}.json", head | {"data": rows})

    both = ["A person wearing a shirt that says Metallica.", "A Metallica shirt."]
    data(
        "train",
        *(
            {"image_id": "054c99", "image_name": "054c99", "image_path": "train/054c99.jpg", "caption_id": n}
            | {"caption_str": both[n], "caption_tokens": both[n].lower().split(), "reference_strs": both}
            for n in range(2)
        ),
    )
    data("val", {"image_id": "a1", "image_path": "train/a1.jpg", "caption_id": 9, "caption_str": "A stop sign."})
    data("test", {"image_id": "b2", "image_path": "test/b2.jpg"})
    for i, place in enumerate(("train_images/054c99.jpg", "train_images/a1.jpg", "test_images/b2.jpg")):
        picture(root / place, i)


def laion(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "SAMPLE_ID": pa.array([2393210914030.0, 11.0]),
            "URL": ["https://cdn.test/a.jpg", "https://cdn.test/b.jpg"],
            "TEXT": ["  Cosmic dawn ", "a red bus"],
            "HEIGHT": pa.array([600, 480], pa.int32()),
            "WIDTH": pa.array([800, None], pa.int32()),
            "LICENSE": ["?", "cc-by"],
            "NSFW": ["UNLIKELY", "NSFW"],
            "similarity": pa.array([0.32, float("nan")]),
        }
    )
    pq.write_table(table, root / "part-00000-5b54c5d5.snappy.parquet")


def datacomp(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "uid": ["e4a70e1e", "0f00"],
            "url": ["https://d.test/a.jpg", "https://d.test/b.jpg"],
            "text": ["one", "two"],
            "original_width": pa.array([800, 400]),
            "clip_l14_similarity_score": pa.array([0.2, 0.3], pa.float32()),
            "face_bboxes": [[[0.1, 0.2, 0.3, 0.4]], []],
            "sha256": ["aa", "bb"],
            "hash": pa.array([9007199254740993, -1]),
        }
    )
    pq.write_table(table, root / "0000.parquet")


# ---------------------------------------------------------------- questions


def vqa_answers(*texts: str) -> list[dict[str, Any]]:
    return [{"answer": text, "answer_confidence": "yes", "answer_id": n} for n, text in enumerate(texts, 1)]


def vqa(root: Path, version: str = "v2_") -> None:
    """Train with answers, test-dev without; pictures in the folders of COCO."""
    head = {
        "info": {"description": "This is v2.0 of the VQA dataset.", "version": "2.0", "year": 2017},
        "license": {"url": "http://creativecommons.org/licenses/by/4.0/", "name": "Attribution 4.0"},
        "data_type": "mscoco",
    }
    task = {"task_type": "Open-Ended"}
    asked = [
        {"image_id": 458752, "question": "What is this photo taken looking through?", "question_id": 458752000},
        {"image_id": 262146, "question": "Is the man skiing?", "question_id": 262146000},
        {"image_id": 458752, "question": "How many players?", "question_id": 458752001},
    ]
    given = [
        (458752000, 458752, "other", "what is this", ["net"] * 9 + ["netting"]),
        (262146000, 262146, "yes/no", "is the man", ["yes"] * 10),
        (458752001, 458752, "number", "how many", ["1", "2"] * 5),
    ]
    answers = [
        {
            "question_type": question_type,
            "multiple_choice_answer": texts[0],
            "answers": vqa_answers(*texts),
            "image_id": image,
            "answer_type": answer_type,
            "question_id": question,
        }
        for question, image, answer_type, question_type, texts in given
    ]
    subset = {"data_subtype": "train2014"}
    dump(root / f"{version}OpenEnded_mscoco_train2014_questions.json", head | task | subset | {"questions": asked})
    dump(root / f"{version}mscoco_train2014_annotations.json", head | subset | {"annotations": answers})
    subset = {"data_subtype": "test-dev2015"}
    held = [{"image_id": 1, "question": "What color is the bus?", "question_id": 10}]
    dump(root / f"{version}OpenEnded_mscoco_test-dev2015_questions.json", head | task | subset | {"questions": held})
    for i, name in enumerate(("COCO_train2014_000000458752", "COCO_train2014_000000262146")):
        picture(root / "train2014" / f"{name}.jpg", i)
    picture(root / "test2015" / "COCO_test2015_000000000001.jpg", 2)


def vqa_v1(root: Path) -> None:
    """With the multiple-choice file, whose questions are those of the open-ended one."""
    vqa(root, "")
    asked = json.loads((root / "OpenEnded_mscoco_train2014_questions.json").read_text())
    for question in asked["questions"]:
        question["multiple_choices"] = ["net", "yes", "1", "blue"]
    asked["task_type"] = "Multiple-Choice"
    dump(root / "MultipleChoice_mscoco_train2014_questions.json", asked)


def textvqa(root: Path) -> None:
    def data(split: str, *records: dict[str, Any]) -> None:
        head = {"dataset_type": split, "dataset_name": "textvqa", "dataset_version": "0.5.1"}
        rows = [OPEN_IMAGES | record | {"set_name": split} for record in records]
        dump(root / f"TextVQA_0.5.1_{split}.json", head | {"data": rows})

    asked = ["what is the brand of this camera?", "what year is on it?"]
    answers = {"answers": ["dakota"] * 8 + ["dakota digital", "clos culombu"]}
    same = [{"image_id": "003a8a", "question_id": 34600 + n, "question": q} | answers for n, q in enumerate(asked)]
    data("train", *same)
    data("test", {"image_id": "b2", "question_id": 39602, "question": "what does it say?"})
    picture(root / "train_images" / "003a8a.jpg")
    picture(root / "test_images" / "b2.jpg", 1)


def vizwiz(root: Path) -> None:
    def answers(*texts: str) -> list[dict[str, str]]:
        return [{"answer_confidence": "yes", "answer": text} for text in texts]

    train = [
        {
            "image": "VizWiz_train_00000000.jpg",
            "question": "What's the name of this product?",
            "answers": answers(*["basil leaves"] * 6, *["basil"] * 4),
            "answer_type": "other",
            "answerable": 1,
        },
        {
            "image": "VizWiz_train_00000001.jpg",
            "question": "Can you tell me what is in this can please?",
            "answers": answers(*["unanswerable"] * 10),
            "answer_type": "unanswerable",
            "answerable": 0,
        },
    ]
    dump(root / "train.json", train)
    dump(root / "test.json", [{"image": "VizWiz_test_00000000.jpg", "question": "Which one is the blue one?"}])
    for i, name in enumerate(
        ("train/VizWiz_train_00000000", "train/VizWiz_train_00000001", "test/VizWiz_test_00000000")
    ):
        picture(root / f"{name}.jpg", i)


PROGRAM = [
    {"inputs": [], "function": "scene", "value_inputs": []},
    {"inputs": [0], "function": "filter_shape", "value_inputs": ["cube"]},
    {"inputs": [1], "function": "count", "value_inputs": []},
]


def clevr(root: Path, train: str = "train", test: str = "test") -> None:
    """A split with scenes and one without; CoGenT only names its splits differently."""

    def question(split: str, n: int, text: str, **more: Any) -> dict[str, Any]:
        name = {"image_filename": f"CLEVR_{split}_00000{n}.png", "image_index": n, "question_index": 7 + n}
        return {"split": split, "question": text} | name | more

    thing = {"3d_coords": [-1.1, 2.6, 0.35], "rotation": 269.3, "pixel_coords": [3, 2, 11.4]}
    scene = {
        "split": train,
        "image_index": 0,
        "image_filename": f"CLEVR_{train}_000000.png",
        "directions": {"right": [0.66, 0.75, 0.0], "left": [-0.66, -0.75, 0.0]},
        "objects": [
            {"color": "brown", "size": "large", "shape": "cylinder", "material": "rubber"} | thing,
            {"color": "gray", "size": "small", "shape": "cube", "material": "metal"} | thing,
        ],
        "relationships": {"right": [[1], []], "left": [[], [0]], "front": [[], []], "behind": [[], []]},
    }
    info = {"info": {"date": "2/14/2017", "license": "Creative Commons Attribution (CC BY 4.0)", "version": "1.0"}}
    asked = [
        question(train, 0, "How many cubes are there?", answer="1", program=PROGRAM, question_family_index=2),
        question(train, 0, "Is there a ball?", answer="no", program=[PROGRAM[0], {"function": "exist", "inputs": [0]}]),
    ]
    dump(root / "scenes" / f"CLEVR_{train}_scenes.json", info | {"scenes": [scene]})
    dump(root / "questions" / f"CLEVR_{train}_questions.json", info | {"questions": asked})
    held = [question(test, 0, "What color is it?")]
    dump(root / "questions" / f"CLEVR_{test}_questions.json", info | {"questions": held})
    for i, split in enumerate((train, test)):
        picture(root / "images" / split / f"CLEVR_{split}_000000.png", i)


def cogent(root: Path) -> None:
    clevr(root, "trainA", "valB")


def nlvr2(root: Path) -> None:
    def row(id: str, label: str, **more: Any) -> dict[str, Any]:
        return {
            "validation": {"61": label},
            "sentence": "The right image shows a curving walkway of dark glass circles.",
            "left_url": "https://i.test/l.jpg",
            "writer": "61",
            "label": label,
            "right_url": "https://i.test/r.jpg",
            "synset": "beer bottle",
            "query": "some beer bottles38",
            "identifier": id,
            **more,
        }

    lines(root / "data" / "train.json", row("train-10171-0-0", "False", directory=74))
    lines(root / "data" / "dev.json", row("dev-850-0-0", "False", extra_validations={}), row("dev-850-2-0", "True"))
    stems = ("train/74/train-10171-0", "dev/dev-850-0", "dev/dev-850-2")
    for i, (stem, side) in enumerate((stem, side) for stem in stems for side in (0, 1)):
        picture(root / "images" / f"{stem}-img{side}.png", i)


def gqa(root: Path) -> None:
    program = [
        {"operation": "select", "dependencies": [], "argument": "cow (1)"},
        {"operation": "query", "dependencies": [0], "argument": "color"},
    ]
    asked = {
        "07333408": {
            "semantic": program,
            "entailed": ["06778810"],
            "equivalent": ["07333408"],
            "question": "What is the color of the cow on the left?",
            "imageId": "2375429",
            "isBalanced": True,
            "groups": {"global": "color", "local": "13-cow"},
            "answer": "brown",
            "semanticStr": "select: cow (1)->query: color [0]",
            "annotations": {"answer": {"0": "1"}, "question": {"4": "1"}, "fullAnswer": {"1": "1"}},
            "types": {"detailed": "queryAttr", "semantic": "attr", "structural": "query"},
            "fullAnswer": "The cow is brown.",
        }
    }
    more = asked | {"07333409": asked["07333408"] | {"question": "Is it a cow?", "isBalanced": False}}
    dump(root / "questions" / "train_balanced_questions.json", asked)
    dump(root / "questions" / "train_all_questions" / "train_all_questions_0.json", more)
    held = {"201307251": {"imageId": "n161313", "question": "Is it overcast?", "isBalanced": True}}
    dump(root / "questions" / "test_balanced_questions.json", held)
    cow = {"name": "cow", "x": 1, "y": 2, "w": 3, "h": 4, "attributes": ["brown"]}
    graph = {
        "width": 8,
        "height": 6,
        "location": "field",
        "objects": {
            "681267": cow | {"relations": [{"object": "681268", "name": "to the left of"}]},
            "681268": {"name": "grass", "x": 0, "y": 3, "w": 8, "h": 3, "attributes": [], "relations": []},
        },
    }
    dump(root / "sceneGraphs" / "train_sceneGraphs.json", {"2375429": graph, "1": graph})
    picture(root / "images" / "2375429.jpg")
    picture(root / "images" / "n161313.jpg", 1)


# ---------------------------------------------------------------- tests of understanding


def aro(root: Path) -> None:
    box = {"bbox_x": 1, "bbox_y": 2, "bbox_w": 4, "bbox_h": 3}
    pair = {"image_id": 2325499, "image_path": "2325499.jpg", "duplicated_image_ids": []} | box
    relation = {"true_caption": "the bus is to the left of the trees", "relation_name": "to the left of"}
    relation |= {"false_caption": "the trees is to the left of the bus", "predicate": 0}
    attribute = {"true_caption": "the white dog and the black cat", "attributes": ["white", "black"]}
    attribute |= {"false_caption": "the black dog and the white cat", "obj1_name": "dog", "obj2_name": "cat"}
    dump(root / "visual_genome_relation.json", [pair | relation])
    dump(root / "visual_genome_attribution.json", [pair | attribute])
    order = {"image_path": "val2014/COCO_val2014_000000391895.jpg", "caption_options": ["a man rides", "rides a man"]}
    dump(root / "coco_order.json", [order])
    picture(root / "images" / "2325499.jpg")
    picture(root / "val2014" / "COCO_val2014_000000391895.jpg", 1)


WINOGROUND = {
    "id": 0,
    "image_0": "ex_0_img_0",
    "image_1": "ex_0_img_1",
    "caption_0": "an old person kisses a young person",
    "caption_1": "a young person kisses an old person",
    "tag": "Adjective-Age",
    "secondary_tag": "",
    "num_main_preds": 1,
    "collapsed_tag": "Object",
}


def winoground(root: Path) -> None:
    lines(root / "data" / "examples.jsonl", WINOGROUND)
    for side in (0, 1):
        picture(root / "data" / "images" / f"ex_0_img_{side}.png", side)


def winoground_parquet(root: Path) -> None:
    held = {f"image_{n}": {"bytes": picture(root.parent / "x.png", n), "path": f"ex_0_img_{n}.png"} for n in (0, 1)}
    (root / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([WINOGROUND | held]), root / "data" / "test-00000-of-00001.parquet")


def sugarcrepe(root: Path) -> None:
    item = {
        "filename": "000000085329.jpg",
        "caption": "A drawing of a young woman with many facial piercings.",
        "negative_caption": "A drawing of a tattooed young woman with many facial piercings.",
    }
    for name in ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj"):
        dump(root / "data" / f"{name}.json", {"0": item})
    picture(root / "val2017" / "000000085329.jpg")


LAYOUTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    make.__name__: (format, make)
    for format, makers in {
        "flickr30k": (flickr30k, flickr30k_csv, flickr8k_csv),
        "conceptual-captions": (cc3m, cc12m),
        "redcaps": (redcaps,),
        "textcaps": (textcaps,),
        "laion": (laion, datacomp),
        "vqa": (vqa, vqa_v1),
        "textvqa": (textvqa,),
        "vizwiz": (vizwiz,),
        "clevr": (clevr, cogent),
        "nlvr2": (nlvr2,),
        "gqa": (gqa,),
        "aro": (aro,),
        "winoground": (winoground, winoground_parquet),
        "sugarcrepe": (sugarcrepe,),
    }.items()
    for make in makers
}
"""Layout -> (the format it belongs to, what makes it)."""


def opened(source: Any) -> dict[str, Any]:
    """The samples of a source by id, after a run of its reader and import in which nothing was rejected."""
    from diptych.data import open_dataset

    dataset = open_dataset(source)
    assert dataset.quarantine() == []
    return {sample.id: sample for sample in dataset}


def rejected(source: Any) -> tuple[list[str], dict[str, str]]:
    """(ids of what survives, id -> reason of what does not)."""
    from diptych.data import open_dataset

    dataset = open_dataset(source)
    return dataset.ids, {row.id: row.reason for row in dataset.quarantine()}
