"""Tests of understanding: ARO, Winoground and SugarCrepe."""

import json

import pyarrow.parquet as pq
import pytest
from public_layouts import WINOGROUND, dump, lines, opened, rejected

from diptych.data import open_dataset
from diptych.types import InputError, Negative, Region


def test_aro_relation_and_attribution(layout):
    found = opened(layout("aro"))
    relation = found["visual_genome_relation/0"]
    assert relation.captions == ["the bus is to the left of the trees"]
    assert relation.negatives == [Negative("the trees is to the left of the bus", "relation")]
    assert relation.regions == [Region("the bus is to the left of the trees", (1, 2, 5, 5))]
    assert (relation.label, relation.images[0].path) == ("to the left of", "images/2325499.jpg")
    attribution = found["visual_genome_attribution/0"]
    assert (attribution.label, attribution.negatives[0].kind) == ("white_black", "attribution")


def test_aro_order_takes_the_first_option_as_true(layout):
    sample = opened(f"aro:{layout('aro')}?subset=order")["coco_order/0"]
    assert (sample.captions, sample.negatives) == (["a man rides"], [Negative("rides a man", "order")])
    assert sample.images[0].path == "val2014/COCO_val2014_000000391895.jpg"


def test_aro_options(layout):
    root = layout("aro")
    assert list(opened(f"aro:{root}?subset=relation")) == ["visual_genome_relation/0"]
    assert list(opened(root / "visual_genome_attribution.json")) == ["visual_genome_attribution/0"]
    with pytest.raises(InputError, match="option 'subset': expected attribution, relation, order"):
        open_dataset(f"aro:{root}?subset=colour")


def test_bad_items_of_aro(layout):
    root = layout("aro")
    place = root / "visual_genome_relation.json"
    good = json.loads(place.read_text())[0]
    bad = [4, good | {"false_caption": None}, good | {"bbox_w": "4"}, good | {"image_path": "gone.jpg"}]
    dump(place, [good, *bad, {"image_path": "2325499.jpg", "caption_options": []}])
    ids, gone = rejected(f"aro:{root}?subset=relation")
    assert ids == ["visual_genome_relation/0"]
    assert list(gone.values()) == ["wrong type", "field missing", "wrong type", "image missing", "caption empty"]


@pytest.mark.parametrize("name", ["winoground", "winoground_parquet"])
def test_a_winoground_item_is_two_samples_of_one_group(layout, name):
    found = opened(layout(name))
    assert list(found) == ["0/0", "0/1"]
    old, young = "an old person kisses a young person", "a young person kisses an old person"
    for side, (caption, other) in enumerate(((old, young), (young, old))):
        sample = found[f"0/{side}"]
        assert (sample.captions, sample.negatives) == ([caption], [Negative(other, "Adjective-Age")])
        assert (sample.group, sample.tags, sample.split) == ("0", ["Adjective-Age", "Object"], "test")
        assert sample.images[0].path.endswith(f"ex_0_img_{side}.png")
        assert sample.scores == {"num_main_preds": 1}
    assert found["0/0"].images[0].data != found["0/1"].images[0].data


def test_winoground_as_a_json_list(layout):
    root = layout("winoground")
    (root / "data" / "examples.jsonl").unlink()
    place = dump(root / "data" / "examples.json", [WINOGROUND])
    assert list(opened(root)) == list(opened(place)) == ["0/0", "0/1"]
    place.write_text(place.read_text()[:-9])
    with pytest.raises(InputError, match=r"examples\.json: expected JSON"):
        open_dataset(root)


def test_bad_items_of_winoground(layout):
    root = layout("winoground")
    bad = [WINOGROUND | {"id": 1, "caption_1": 5}, WINOGROUND | {"id": 2, "image_1": "gone"}, WINOGROUND | {"id": None}]
    with lines(root / "data" / "examples.jsonl", WINOGROUND, *bad).open("a") as file:
        file.write('{"id": 3, "image_0')
    ids, gone = rejected(root)
    assert ids == ["0/0", "0/1", "2/0"]
    assert gone == {
        "examples.jsonl:2": "wrong type",
        "2/1": "image missing",
        "examples.jsonl:4": "field missing",
        "examples.jsonl:5": "row broken",
    }


def test_winoground_parquet_without_a_picture_or_damaged(layout):
    place = layout("winoground_parquet") / "data" / "test-00000-of-00001.parquet"
    table = pq.read_table(place)
    rows = [row | {"id": n} for n, row in enumerate(table.to_pylist() * 2)]
    rows[1]["image_0"] = None
    pq.write_table(table.from_pylist(rows, table.schema), place)
    ids, gone = rejected(place)
    assert ids == ["0/0", "0/1"] and list(gone.values()) == ["field missing"]
    place.write_bytes(place.read_bytes()[:200])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        open_dataset(f"winoground:{place}")


def test_sugarcrepe(layout):
    root = layout("sugarcrepe")
    found = opened(root)
    assert list(found) == [f"{name}/0" for name in sorted(place.stem for place in (root / "data").iterdir())]
    sample = found["add_att/0"]
    negative = "A drawing of a tattooed young woman with many facial piercings."
    assert sample.negatives == [Negative(negative, "add_att")]
    assert sample.captions == ["A drawing of a young woman with many facial piercings."]
    assert list(opened(f"sugarcrepe:{root}?subset=swap_obj")) == ["swap_obj/0"]
    assert list(opened(root / "data" / "swap_att.json")) == ["swap_att/0"]
    with pytest.raises(InputError, match="option 'subset': no test 'swap'; it has add_att"):
        open_dataset(f"sugarcrepe:{root}?subset=swap")


def test_bad_items_of_sugarcrepe(layout):
    root = layout("sugarcrepe")
    place = root / "data" / "swap_att.json"
    good = json.loads(place.read_text())["0"]
    bad = {"1": good | {"filename": "gone.jpg"}, "2": good | {"caption": ["a"]}, "3": None}
    dump(place, {"0": good} | bad)
    ids, gone = rejected(f"sugarcrepe:{root}?subset=swap_att")
    assert ids == ["swap_att/0"]
    assert gone == {"swap_att/1": "image missing", "swap_att/2": "wrong type", "swap_att/3": "wrong type"}
    dump(place, [good])
    with pytest.raises(InputError, match=r"swap_att\.json: expected an object at the top, got list"):
        open_dataset(f"sugarcrepe:{root}?subset=swap_att")
