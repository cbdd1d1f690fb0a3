"""Visual Genome: objects, attributes, relations and regions from any of its files, and what is rejected."""

import json

import pytest
from fixtures_annotations import edit, visual_genome
from fixtures_annotations import kept_and_rejected as kept

from diptych.data import open_dataset
from diptych.data.formats.json_stream import stream_list
from diptych.types import EncodedImage, InputError, Object, Question, Region, Relation


@pytest.fixture
def root(tmp_path):
    visual_genome(tmp_path / "vg")
    return tmp_path / "vg"


def only(root, *names):
    """Leave only these JSON files."""
    for file in root.glob("*.json"):
        if file.name not in names:
            file.unlink()
    return {sample.id: sample for sample in open_dataset(f"visual-genome:{root}")}


CLOCK = Object("clock", (2, 1, 6, 6), attributes=["green", "tall"], id="1058498")
SIDEWALK = Object("sidewalk", (1, 6, 19, 12), attributes=["grey"], id="1058534")
SHADE = Object("shade", (0, 0, 9, 9), id="5045")


def test_all_files_together(root):
    one, two = open_dataset(root)
    assert one.images == [EncodedImage((root / "VG_100K_2" / "1.jpg").read_bytes(), "VG_100K_2/1.jpg")]
    assert one.objects == [CLOCK, SIDEWALK, SHADE]
    assert one.relations == [Relation(2, "ON", 1), Relation(0, "near", 1)]  # 5046 was merged into the sidewalk
    assert one.regions == [Region("the clock is green", (2, 1, 6, 6))]
    assert one.questions == [Question("What color is the clock?", ["Green."], id="986768")]
    assert one.url == "https://cs.stanford.edu/people/rak248/VG_100K_2/1.jpg" and one.texts == {}
    assert (two.id, two.images[0].path, two.texts) == ("2", "VG_100K/2.jpg", {"coco_id": "391895"})
    assert [thing.name for thing in two.objects] == ["man"] and two.relations == []


def test_any_file_alone(root, tmp_path):
    bare = [Object(thing.name, thing.box, id=thing.id) for thing in (CLOCK, SIDEWALK, SHADE)]
    expected = {
        "image_data.json": ([], []),
        "objects.json": (bare[:2], []),
        "attributes.json": ([CLOCK, SHADE, SIDEWALK], []),
        "relationships.json": ([bare[2], bare[1]], [Relation(0, "ON", 1)]),
        "scene_graphs.json": ([bare[0], bare[2], bare[1]], [Relation(1, "ON", 2), Relation(0, "near", 2)]),
        "region_descriptions.json": ([], []),
    }
    for name, (objects, relations) in expected.items():
        visual_genome(root)
        sample = only(root, name)["1"]
        assert (sample.objects, sample.relations) == (objects, relations), name
        assert sample.images[0].path == "VG_100K_2/1.jpg"  # found by its name, without image_data.json
        assert bool(sample.regions) == (name == "region_descriptions.json")
        (root / name).unlink()


def test_pictures_below_images(root):
    (root / "images").mkdir()
    for folder in ("VG_100K", "VG_100K_2"):
        (root / folder).rename(root / "images" / folder)
    assert [sample.images[0].path for sample in open_dataset(root)] == [
        "images/VG_100K_2/1.jpg",
        "images/VG_100K/2.jpg",
    ]
    (root / "images" / "VG_100K" / "2.jpg").unlink()
    assert kept(root) == (["1"], {"2": "image missing"})


@pytest.mark.parametrize(
    ("file", "change", "name", "reason"),
    [
        ("objects.json", lambda c: c[0]["objects"][0].pop("x"), "objects.json#1058498", "field missing"),
        ("objects.json", lambda c: c[0]["objects"][0].update(w=0), "objects.json#1058498", "box without area"),
        ("objects.json", lambda c: c[0]["objects"][0].update(x=99), "objects.json#1058498", "box outside the picture"),
        ("objects.json", lambda c: c[0]["objects"][0].update(h="5"), "objects.json#1058498", "wrong type"),
        ("objects.json", lambda c: c[0]["objects"][0].update(names="clock"), "objects.json#1058498", "wrong type"),
        ("objects.json", lambda c: c[0]["objects"][0].update(object_id="a"), "objects.json#a", "wrong type"),
        ("objects.json", lambda c: c[0]["objects"].append(5), "objects.json#image 1[2]", "wrong type"),
        ("objects.json", lambda c: c.append("x"), "objects.json#[2]", "wrong type"),
        ("objects.json", lambda c: c.append({"image_id": 3, "objects": []}), "objects.json#[2]", "dangling id"),
        ("objects.json", lambda c: c[1].pop("objects"), "objects.json#[1]", "field missing"),
        ("image_data.json", lambda c: c.append(c[0]), "image_data.json#[2]", "id not unique"),
    ],
)
def test_a_bad_entry_is_rejected_and_its_picture_stays(root, file, change, name, reason):
    for other in ("attributes.json", "relationships.json", "scene_graphs.json"):
        (root / other).unlink()
    edit(root / file, change)
    assert kept(root) == (["1", "2"], {name: reason})


@pytest.mark.parametrize(
    ("file", "change", "name", "reason"),
    [
        ("scene_graphs.json", {"subject_id": 77}, "scene_graphs.json#15928", "dangling id"),
        ("scene_graphs.json", {"object_id": None}, "scene_graphs.json#15928", "field missing"),
        ("relationships.json", {"predicate": 3}, "relationships.json#15927", "wrong type"),
        ("relationships.json", {"subject": 5045}, "relationships.json#15927", "wrong type"),
        ("relationships.json", {"subject": {"object_id": 6}}, "relationships.json#15927", "field missing"),
        ("attributes.json", {"attributes": "green"}, "attributes.json#1058498", "wrong type"),
        ("region_descriptions.json", {"phrase": ""}, "region_descriptions.json#1382", "caption empty"),
        ("region_descriptions.json", {"width": -4}, "region_descriptions.json#1382", "box without area"),
        ("question_answers.json", {"answer": None}, "question_answers.json#986768", "field missing"),
    ],
)
def test_bad_relations_attributes_regions_and_answers(root, file, change, name, reason):
    field = {"region_descriptions.json": "regions", "question_answers.json": "qas", "attributes.json": "attributes"}
    at = 1 if file == "scene_graphs.json" else 0
    edit(root / file, lambda content: content[0][field.get(file, "relationships")][at].update(change))
    assert kept(root) == (["1", "2"], {name: reason})


def test_text_that_is_not_utf8_costs_its_entry_only(root):
    phrase = (root / "region_descriptions.json").read_bytes()
    (root / "region_descriptions.json").write_bytes(phrase.replace(b"the clock", b"the cl\xff"))
    assert kept(root) == (["1", "2"], {"region_descriptions.json#1382": "text not UTF-8"})


def test_a_top_that_is_no_list_is_one_sentence(root):
    (root / "objects.json").write_text('{"objects": [{"object_id": 3}]}')
    with pytest.raises(InputError, match="objects.json: expected a list at the top"):
        open_dataset(root)


# ---------------------------------------------------------------- reading a long list


@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_a_list_is_streamed_the_same_in_pieces_of_any_size(tmp_path, chunk):
    values = [{"a": [1, 2.5, -3e4]}, 12345, 'x ]},[ \\ " ü', [], None, True, {"b": {"c": "d" * 50}}, 7]
    for text in (json.dumps(values), json.dumps(values, indent=3) + "\n", "\ufeff" + json.dumps(values), " [ ] ", "[]"):
        (tmp_path / "x.json").write_text(text, encoding="utf-8")
        assert list(stream_list(tmp_path / "x.json", chunk)) == (values if "a" in text else [])


@pytest.mark.parametrize("text", ["", "[", "[1", "[1,", "[1,]", "[1 2]", "[1]]", "[{]", '{"a": 1}', "[" * 100_000, "3"])
@pytest.mark.parametrize("chunk", [1, 1000])
def test_what_is_no_list_is_one_sentence(tmp_path, text, chunk):
    (tmp_path / "x.json").write_text(text)
    if len(text) > 1000 and chunk == 1:
        chunk = 500
    with pytest.raises(InputError, match=r"x\.json: expected (JSON|a list at the top)"):
        list(stream_list(tmp_path / "x.json", chunk))
    with pytest.raises(InputError, match="expected JSON"):
        list(stream_list(tmp_path / "gone.json", chunk))
