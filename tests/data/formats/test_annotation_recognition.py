"""Annotated data sets: each is told by its own reader alone, and a broken file is one sentence for all of them."""

import json

import pytest
from fixtures_annotations import LAYOUTS, dump, karpathy_coco, picture, text
from public_layouts import LAYOUTS as OTHERS

from diptych.data import open_dataset
from diptych.data.formats import FORMATS, recognise
from diptych.types import InputError

OURS = sorted({format for format, _ in LAYOUTS.values()})

PANOPTIC = "?images=val2017&segments=annotations/panoptic_val2017"


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_recognised_by_its_own_reader_alone(layout, name):
    root, own = layout(name), LAYOUTS[name][0]
    assert [format for format in FORMATS if FORMATS[format].recognise(root)] == [own, "folder"]
    assert recognise(root) == own


@pytest.mark.parametrize("name", OTHERS)
def test_other_layouts_and_their_files_are_left_to_others(tmp_path, name):
    OTHERS[name][1](tmp_path / name)
    for place in (tmp_path / name, *(tmp_path / name).rglob("*.json")):
        assert [format for format in OURS if FORMATS[format].recognise(place)] == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_bare_path_and_an_address_open_the_same(layout, name):
    root = layout(name)
    bare, named = open_dataset(root), open_dataset(f"{LAYOUTS[name][0]}:{root}")
    assert list(bare) == list(named) and len(bare) > 0
    assert bare.quarantine() == named.quarantine() == []
    assert bare.card["read_as"] == LAYOUTS[name][0]


@pytest.mark.parametrize(
    ("name", "file", "own", "options"),
    [
        ("coco", "annotations/instances_val2017.json", "coco", "?images=val2017"),
        ("coco", "annotations/captions_val2017.json", "coco", "?images=val2017"),
        ("panoptic", "annotations/panoptic_val2017.json", "coco-panoptic", PANOPTIC),
        ("karpathy_coco", "dataset_coco.json", "karpathy", ""),
    ],
)
def test_one_json_file_is_recognised_by_its_fields(layout, name, file, own, options):
    place = layout(name) / file
    assert [format for format in OURS if FORMATS[format].recognise(place)] == [own]
    other = place.rename(place.with_name("any-name.json"))
    assert [format for format in OURS if FORMATS[format].recognise(other)] == [own]
    dataset = open_dataset(f"{own}:{other}{options}")
    assert len(dataset) > 1 and dataset.quarantine() == []


@pytest.mark.parametrize("format", OURS)
def test_a_folder_without_the_layout_is_one_sentence(tmp_path, format):
    picture(tmp_path / "photos" / "a.png")
    dump(tmp_path / "photos" / "b.json", [1, "x", None])
    for place in (tmp_path / "photos", tmp_path / "photos" / "b.json", tmp_path / "photos" / "a.png"):
        assert not FORMATS[format].recognise(place)
        with pytest.raises(InputError, match="expected") as error:
            open_dataset(f"{format}:{place}")
        assert "\n" not in str(error.value) and str(place) in str(error.value)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("coco", "annotations/instances_val2017.json"),
        ("coco", "annotations/captions_val2017.json"),
        ("panoptic", "annotations/panoptic_val2017.json"),
        ("karpathy_coco", "dataset_coco.json"),
        ("visual_genome", "image_data.json"),
        ("visual_genome", "objects.json"),
        ("visual_genome", "scene_graphs.json"),
        ("visual_genome", "region_descriptions.json"),
    ],
)
@pytest.mark.parametrize("share", [0.97, 0.6])
def test_a_truncated_file_is_one_sentence_that_names_it(layout, name, file, share):
    root = layout(name)
    whole = (root / file).read_text()
    (root / file).write_text(whole[: int(share * len(whole))])
    for address in (root, f"{LAYOUTS[name][0]}:{root}"):  # it is still recognised
        with pytest.raises(InputError, match="expected JSON") as error:
            open_dataset(address)
        assert "\n" not in str(error.value) and file in str(error.value)


@pytest.mark.parametrize("name", ["coco", "panoptic", "karpathy_coco"])
def test_a_table_of_the_wrong_type_is_one_sentence(layout, name):
    root = layout(name)
    file = next(root.rglob("*instances*.json"), None) or next(root.rglob("*.json"))
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"images": {"139": {}}}))
    with pytest.raises(InputError, match="images: expected a list, got dict"):
        open_dataset(f"{LAYOUTS[name][0]}:{root}")
    file.write_text(json.dumps([content]))
    with pytest.raises(InputError, match="expected an object at the top, got list"):
        open_dataset(f"{LAYOUTS[name][0]}:{root}")


def test_options_are_checked(layout):
    root = layout("coco")
    with pytest.raises(InputError, match="no option 'splits'; it has split, images"):
        open_dataset(f"coco:{root}?splits=val2017")
    with pytest.raises(InputError, match="split 'val': expected one of train2017, val2017"):
        open_dataset(f"coco:{root}?split=val")
    with pytest.raises(InputError, match="option 'images': expected a folder"):
        open_dataset(f"coco:{root}?images=nowhere")


def test_a_new_picture_is_noticed(layout):
    root = layout("coco")
    name = root / "val2017" / "000000000632.jpg"
    data = name.read_bytes()
    name.unlink()
    first = open_dataset(root)
    assert "632" not in first.ids and [row.reason for row in first.quarantine()] == ["image missing"]
    name.write_bytes(data)
    assert "632" in open_dataset(root).ids


def test_a_karpathy_file_within_coco_is_read_by_its_address(tmp_path):
    LAYOUTS["coco"][1](tmp_path / "both")
    karpathy_coco(tmp_path / "both")
    text(tmp_path / "both" / "dataset.txt", "no JSON")
    assert recognise(tmp_path / "both") == "coco"
    assert len(open_dataset(f"karpathy:{tmp_path / 'both'}")) == 4
