"""Captions: Flickr30k, Conceptual Captions, RedCaps, TextCaps, LAION's tables; and how all layouts are told apart."""

import json
import os
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from public_layouts import CC_URL, LAYOUTS, dump, lines, opened, picture, rejected

from diptych.data import open_dataset
from diptych.data.formats import FORMATS, laion, recognise
from diptych.data.formats.json_stream import stream_list, stream_members
from diptych.data.store import SCHEMA, table_of
from diptych.types import InputError, Rejected

# ---------------------------------------------------------------- all layouts


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_recognised_by_its_own_reader_alone(layout, name):
    root, own = layout(name), LAYOUTS[name][0]
    fits = [format for format in FORMATS if FORMATS[format].recognise(root)]
    assert fits[0] == own
    assert not set(fits[1:]) & {format for format, _ in LAYOUTS.values()}
    assert recognise(root) == own


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_bare_path_and_an_address_open_the_same(layout, name):
    root = layout(name)
    bare, named = open_dataset(root), open_dataset(f"{LAYOUTS[name][0]}:{root}")
    assert list(bare) == list(named)
    assert len(bare) > 0 and bare.quarantine() == named.quarantine()


@pytest.mark.parametrize("format", sorted({format for format, _ in LAYOUTS.values()}))
def test_a_folder_without_the_layout_is_one_sentence(tmp_path, format):
    picture(tmp_path / "photos" / "a.png")
    with pytest.raises(InputError, match="found none|none of its 0") as error:
        open_dataset(f"{format}:{tmp_path / 'photos'}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("format", sorted({format for format, _ in LAYOUTS.values()}))
def test_a_file_of_something_else_is_one_sentence_or_all_rejected(tmp_path, format):
    picture(tmp_path / "a.png")
    dump(tmp_path / "b.json", [1, "x", None])
    assert not FORMATS[format].recognise(tmp_path / "a.png")
    assert not FORMATS[format].recognise(tmp_path / "b.json")
    for name in ("a.png", "b.json"):
        try:
            dataset = open_dataset(f"{format}:{tmp_path / name}")
        except InputError as error:
            assert "\n" not in str(error) and name in str(error)
        else:
            assert len(dataset) == 0 and dataset.quarantine()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("redcaps", "annotations/itookapicture_2017.json"),
        ("textcaps", "TextCaps_0.1_train.json"),
        ("vqa", "v2_OpenEnded_mscoco_train2014_questions.json"),
        ("vqa", "v2_mscoco_train2014_annotations.json"),
        ("textvqa", "TextVQA_0.5.1_train.json"),
        ("vizwiz", "train.json"),
        ("clevr", "scenes/CLEVR_train_scenes.json"),
        ("clevr", "questions/CLEVR_train_questions.json"),
        ("gqa", "questions/train_balanced_questions.json"),
        ("gqa", "sceneGraphs/train_sceneGraphs.json"),
        ("aro", "visual_genome_relation.json"),
        ("sugarcrepe", "data/swap_att.json"),
    ],
)
@pytest.mark.parametrize("cut", [0.4, 0.97])
def test_json_that_is_cut_short_is_one_sentence_that_names_the_file(layout, name, file, cut):
    root = layout(name)
    place = root / file
    text = place.read_text()
    place.write_text(text[: int(len(text) * cut)])
    with pytest.raises(InputError, match="expected JSON") as error:
        open_dataset(f"{name}:{root}")
    assert place.name in str(error.value) and "\n" not in str(error.value)


def test_pictures_may_lie_elsewhere(layout, tmp_path):
    root = layout("sugarcrepe")
    (root / "val2017").rename(tmp_path / "coco2017")
    ids, gone = rejected(f"sugarcrepe:{root}")
    assert ids == [] and set(gone.values()) == {"image missing"} and len(gone) == 7
    assert len(opened(f"sugarcrepe:{root}?images=../coco2017")) == 7
    with pytest.raises(InputError, match="option 'images': expected a folder"):
        open_dataset(f"sugarcrepe:{root}?images=nowhere")


def test_a_name_that_leaves_the_folder_is_rejected(layout):
    root = layout("sugarcrepe")
    (root.parent / "secret.jpg").write_bytes((root / "val2017" / "000000085329.jpg").read_bytes())
    dump(
        root / "data" / "add_att.json", {"0": {"filename": "../../secret.jpg", "caption": "a", "negative_caption": "b"}}
    )
    assert rejected(f"sugarcrepe:{root}?subset=add_att") == ([], {"add_att/0": "path outside the folder"})


def test_a_changed_picture_is_imported_again(layout):
    root = layout("vizwiz")
    place = root / "train" / "VizWiz_train_00000000.jpg"
    whole = place.read_bytes()
    place.write_bytes(whole[:40])
    assert rejected(root)[1] == {"VizWiz_train_00000000.jpg": "image truncated"}
    place.write_bytes(whole)
    os.utime(place, (1, 1))
    assert len(opened(root)) == 3


JUNK = (
    None,
    -1,
    2**70,
    1.5,
    float("nan"),
    "",
    True,
    "x\udc80",
    "\0",
    [],
    {},
    [None],
    [[1]],
    {"a": 1},
    "../x",
    "http://x",
)


def spots(value):
    """(container, key) of every value within a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [spot for key in keys for spot in ((value, key), *spots(value[key]))]


@pytest.mark.parametrize("name", LAYOUTS)
def test_any_value_of_a_wrong_type_is_one_sentence_or_a_counted_row(layout, name):
    """Somewhere in each JSON file a value is replaced or gone: no row breaks the reader, or cannot be stored."""
    root, format = layout(name), FORMATS[LAYOUTS[name][0]]
    random = Random(0)
    for place in sorted(root.rglob("*.json*")):
        whole = place.read_text()
        by_line = place.suffix == ".jsonl" or name == "nlvr2"
        for _ in range(25):
            records = [json.loads(line) for line in whole.splitlines()] if by_line else json.loads(whole)
            container, key = random.choice(spots(records))
            if random.random() < 0.2:
                del container[key]
            else:
                container[key] = random.choice(JUNK)
            lines(place, *records) if by_line else dump(place, records)
            format.recognise(root)
            try:
                table_of([row for row in format.read(root).items if not isinstance(row, Rejected)], SCHEMA.names)
            except InputError as error:
                assert place.name in str(error)
        place.write_text(whole)


@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_json_is_streamed_whatever_the_chunk(tmp_path, chunk):
    place = tmp_path / "a.json"
    place.write_text('\ufeff{"a": 12, "rows": [ {"x": [1, "]"]} , 23 ] , "b": {}, "none": []}\n', encoding="utf-8")
    whole = json.loads(place.read_text(encoding="utf-8-sig"))
    assert list(stream_members(place, chunk=chunk)) == list(whole.items())
    found = [("a", 12), ("rows", {"x": [1, "]"]}), ("rows", 23), ("b", {}), ("none", [])]
    assert list(stream_members(place, "rows", chunk)) == found
    assert list(stream_list(dump(place, [1, {"a": [23]}, "x"]), chunk)) == [1, {"a": [23]}, "x"]
    assert list(stream_members(dump(place, {}), chunk=chunk)) == list(stream_list(dump(place, []), chunk)) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1]", "expected an object at the top, got list"),
        ("x", "expected an object at the top, got something else"),
        ('{"rows": 3}', "rows: expected a list, got int"),
        ('{"a": 3}', "rows: expected a list, found no such field"),
        ('{"rows": [1 2]}', r"expected JSON: '\]' missing at character 12"),
        ('{"rows": [1, 2', r"expected JSON: '\]' missing at character 14"),
        ('{"rows": [1, {"a": tru', "expected JSON: Expecting value at character 19"),
        ('{"rows": []} x', "expected JSON: more text after the end, at character 13"),
        ('{"rows": [],}', "expected JSON: .* at character 12"),
        ("", "expected JSON"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 1000])
def test_json_that_is_broken_is_told_with_its_place(tmp_path, text, reason, chunk):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=reason):
        list(stream_members(tmp_path / "a.json", "rows", chunk))


# ---------------------------------------------------------------- Flickr30k


def test_flickr30k_token_file(layout):
    found = opened(layout("flickr30k"))
    assert list(found) == ["1000092795.jpg", "10002456.jpg"]
    assert found["10002456.jpg"].captions == [f"Caption {n} of 10002456.jpg , with a comma ." for n in range(5)]
    assert found["10002456.jpg"].images[0].path == "flickr30k-images/10002456.jpg"


def test_the_line_without_a_caption_cell_is_rejected_alone(layout):
    root = layout("flickr30k_csv")
    dataset = open_dataset(root)
    assert [(row.id, row.reason) for row in dataset.quarantine()] == [("results.csv:11", "row broken")]
    assert [(s.id, len(s.captions)) for s in dataset] == [("1000092795.jpg", 5), ("2199200615.jpg", 4)]
    assert dataset[0].captions[0] == "A dog runs across the grass 0 ."


def test_flickr8k_table(layout):
    (sample,) = opened(layout("flickr8k_csv")).values()
    assert sample.captions[1] == 'A girl, going into a "wooden" building .'


def test_bad_lines_of_a_token_file(layout):
    root = layout("flickr30k")
    with (root / "results_20130124.token").open("ab") as file:
        file.write(b"10002456.jpg#5\t \n10002456.jpg\tno number\ngone.jpg#0\tlost\n10002456.jpg#6\tcaf\xe9\n")
    ids, gone = rejected(root)
    assert ids == ["1000092795.jpg", "10002456.jpg"]
    assert gone == {
        "results_20130124.token:11": "caption empty",
        "results_20130124.token:12": "row broken",
        "gone.jpg": "image missing",
        "results_20130124.token:14": "caption not UTF-8",
    }


# ---------------------------------------------------------------- tables of URLs


def test_conceptual_captions_of_either_order(layout):
    found = opened(layout("cc3m"))
    train = found["Train_GCC-training.tsv:1"]
    assert (train.captions, train.url, train.images, train.split) == (
        ["a very typical bus station"],
        CC_URL,
        [],
        "train",
    )
    assert [sample.split for sample in found.values()] == ["train", "train", "validation"]
    assert list(opened(f"conceptual-captions:{layout('cc3m')}?split=val")) == ["Validation_GCC-1.1.0-Validation.tsv:1"]
    (large,) = opened(layout("cc12m") / "cc12m.tsv").values()
    assert (large.url, large.captions) == (CC_URL, ["Metal Design Within Reach Ivory Slipper Chairs"])
    with pytest.raises(InputError, match="no split 'test'; it has train, validation"):
        open_dataset(f"conceptual-captions:{layout('cc3m')}?split=test")


def test_conceptual_captions_with_labels_header_and_bad_lines(tmp_path):
    place = tmp_path / "Image_Labels_Subset_Train_GCC-Labels-training.tsv"
    place.write_bytes(
        b"caption\turl\na cat\thttps://a.test/1.jpg\tcat,pet\t/m/01,/m/02\t0.9,0.8\nbroken\n"
        b"a dog\tftp://a.test/2.jpg\n \thttps://a.test/3.jpg\ncaf\xe9\thttps://a.test/4.jpg\n"
    )
    ids, gone = rejected(f"conceptual-captions:{place}")
    name = place.name
    assert ids == [f"{name}:2"] and open_dataset(f"conceptual-captions:{place}")[0].tags == ["cat", "pet"]
    assert gone == {
        f"{name}:3": "row broken",
        f"{name}:4": "url missing",
        f"{name}:5": "caption empty",
        f"{name}:6": "caption not UTF-8",
    }


def test_laion_columns(layout):
    found = opened(layout("laion"))
    first, second = found["2393210914030"], found["11"]
    assert (first.captions, first.url, first.images) == (["Cosmic dawn"], "https://cdn.test/a.jpg", [])
    assert first.scores == {"HEIGHT": 600, "WIDTH": 800, "similarity": 0.32}
    assert second.scores == {"HEIGHT": 480}  # what is not there, or no number, is no score
    assert (second.license, second.texts) == ("cc-by", {"NSFW": "NSFW"})


def test_datacomp_columns(layout):
    sample = opened(layout("datacomp"))["e4a70e1e"]
    assert sample.captions == ["one"] and sample.scores["original_width"] == 800
    assert sample.scores["clip_l14_similarity_score"] == pytest.approx(0.2)
    assert sample.texts["hash"] == "9007199254740993"  # a score would have rounded it
    assert json.loads(sample.texts["face_bboxes"]) == [[0.1, 0.2, 0.3, 0.4]]


def test_laion_rows_are_streamed_and_bad_ones_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(laion, "BATCH_ROWS", 4)
    (tmp_path / "urls").mkdir()
    rows = 40
    table = pa.table({"url": [f"https://a.test/{n}" for n in range(rows)], "caption": [f"c{n}" for n in range(rows)]})
    bad = pa.table({"url": [None, "https://a.test/x"], "caption": ["a", None]}, schema=table.schema)
    pq.write_table(table, tmp_path / "urls" / "0.parquet", row_group_size=10)
    pq.write_table(bad, tmp_path / "urls" / "1.parquet")
    (tmp_path / "urls" / "2.parquet").write_bytes(b"PAR1 no more")
    reader = laion.read(tmp_path / "urls")
    assert reader.total == rows + 2 and "2" in reader.found
    seen = []
    original = laion.parquet.plain_rows
    monkeypatch.setattr(laion.parquet, "plain_rows", lambda batch: seen.append(batch.num_rows) or original(batch))
    assert next(reader.items).url == "https://a.test/0" and seen == [4]
    ids, gone = rejected(tmp_path / "urls")
    assert len(ids) == rows
    assert gone == {"1.parquet#0": "url missing", "1.parquet#1": "caption empty", "2.parquet": "file broken"}


def test_a_table_with_pictures_is_not_laions(tmp_path):
    table = pa.table({"url": ["https://a.test/1"], "caption": ["a"], "image": [b"\x89PNG"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert recognise(tmp_path / "a.parquet") == "parquet"
    pq.write_table(table.select(["caption"]), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="expected a column of URLs"):
        open_dataset(f"laion:{tmp_path / 'a.parquet'}")


# ---------------------------------------------------------------- RedCaps and TextCaps


def test_redcaps_takes_pictures_that_were_fetched_and_urls_of_the_rest(layout):
    found = opened(layout("redcaps"))
    here, away = found["bppyj1"], found["bppyj2"]
    assert here.images[0].path == "images/itookapicture/bppyj1.jpg" and away.images == []
    assert (away.url, away.captions) == ("https://i.redd.it/bppyj2.jpg", ["itap of a bridge bppyj2"])
    assert (away.creator, away.tags, away.scores) == ("djasz1", ["itookapicture"], {"score": 12})
    assert away.texts == {
        "raw_caption": "Itap of a bridge bppyj2 [OC]",
        "permalink": "/r/itookapicture/comments/bppyj2/",
        "created_utc": "1494788220",
        "crosspost_parents": '["abc123"]',
    }


def test_bad_posts(layout):
    root = layout("redcaps")
    place = root / "annotations" / "itookapicture_2017.json"
    content = json.loads(place.read_text())
    good = content["annotations"][0]
    content["annotations"] += [5, good | {"caption": ""}, good | {"image_id": 7}, {"image_id": "x"}]
    dump(place, content)
    ids, gone = rejected(root)
    assert ids == ["bppyj1", "bppyj2"]
    assert list(gone.values()) == ["wrong type", "caption empty", "wrong type", "field missing"]


def test_textcaps_captions_of_a_picture_come_together(layout):
    found = opened(layout("textcaps"))
    train = found["054c99"]
    assert train.captions == ["A person wearing a shirt that says Metallica.", "A Metallica shirt."]
    assert (train.tags, train.url) == (["Belt", "Footwear"], "https://farm2.staticflickr.com/1/2_o.jpg")
    assert {id: (s.split, len(s.captions)) for id, s in found.items()} == {
        "054c99": ("train", 2),
        "a1": ("validation", 1),
        "b2": ("test", 0),
    }
    assert list(opened(f"textcaps:{layout('textcaps')}?split=val")) == ["a1"]


def test_bad_rows_of_textcaps(layout):
    root = layout("textcaps")
    content = json.loads((root / "TextCaps_0.1_train.json").read_text())
    good = content["data"][0]
    content["data"] += [None, good | {"caption_str": 3}, good | {"caption_str": " "}, good | {"image_id": "gone"}]
    dump(root / "TextCaps_0.1_train.json", content)
    ids, gone = rejected(f"textcaps:{root}?split=train")
    assert ids == ["054c99"]
    assert list(gone.values()) == ["wrong type", "wrong type", "caption empty", "image missing"]
