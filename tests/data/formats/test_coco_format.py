"""COCO: what each annotation becomes, what is rejected, and that what is written reads the same elsewhere."""

import io
import json

import numpy as np
import pytest
from fixtures_annotations import CATEGORIES, HEIGHT, LICENSES, WIDTH, block, coco, dump, edit, panoptic, picture
from fixtures_annotations import kept_and_rejected as kept
from PIL import Image
from pycocotools.coco import COCO

from diptych.data import masks, open_dataset
from diptych.data.formats import FORMATS
from diptych.types import EncodedImage, InputError, Object, Sample


@pytest.fixture
def root(tmp_path):
    coco(tmp_path / "coco")
    return tmp_path / "coco"


@pytest.fixture
def instances(root):
    return root / "annotations" / "instances_val2017.json"


# ---------------------------------------------------------------- reading


def test_objects_and_captions_become_one_sample_a_picture(root):
    dataset = open_dataset(f"coco:{root}?split=val2017")
    found = {sample.id: sample for sample in dataset}
    assert list(found) == ["139", "285", "632"] and dataset.quarantine() == []
    dog = found["139"]
    assert dog.images == [
        EncodedImage((root / "val2017" / "000000000139.jpg").read_bytes(), "val2017/000000000139.jpg")
    ]
    assert dog.captions == ["A dog before a crowd.", "People watch a dog."]
    assert [(o.name, o.box, o.id, o.kind) for o in dog.objects] == [
        ("dog", (2, 1, 13, 6), "1768", "thing"),
        ("person", (5, 3, 19, 11), "900100000139", "crowd"),
    ]
    assert np.array_equal(masks.decode(dog.objects[0].mask), block(2, 1, 6, 5) | block(10, 2, 13, 6))
    assert np.array_equal(masks.decode(dog.objects[1].mask), block(5, 3, 19, 11))
    assert dog.license == "Attribution License (http://creativecommons.org/licenses/by/2.0/)"
    assert dog.url == "http://images.cocodataset.org/val2017/000000000139.jpg" and dog.split == "validation"
    assert dog.texts == {
        "file_name": "000000000139.jpg",
        "flickr_url": "http://farm7.staticflickr.com/6116/139_02bbd84625_z.jpg",
    }
    assert found["285"].objects[0].box == (1.25, 1.1, 1.25 + 1.75, 1.1 + 2.9)
    assert np.array_equal(masks.decode(found["285"].objects[0].mask), block(1, 1, 3, 4))
    assert found["632"].objects == [] == found["632"].captions  # a picture without annotations stays


def test_all_splits_are_read_and_key_points_left_aside(root):
    found = {sample.id: sample for sample in open_dataset(root)}
    assert {id: s.split for id, s in found.items()} == {
        "9": "train",
        "139": "validation",
        "285": "validation",
        "632": "validation",
    }
    assert found["9"].captions == ["Meal trays."] and len(found["139"].objects) == 2


def test_the_masks_are_those_of_pycocotools(root, instances):
    reference = COCO(str(instances))
    found = [thing for sample in open_dataset(f"coco:{root}?split=val2017") for thing in sample.objects]
    assert len(found) == 3
    for thing in found:
        annotation = reference.anns[int(thing.id)]
        assert np.array_equal(masks.decode(thing.mask), reference.annToMask(annotation).astype(bool))
        x, y, width, height = annotation["bbox"]
        assert thing.box == (x, y, x + width, y + height)


@pytest.mark.parametrize("place", ["images/val2017", "images", "", "pictures/val2017", "pictures"])
def test_pictures_may_lie_elsewhere(root, place):
    target = root / place
    target.mkdir(parents=True, exist_ok=True)
    for file in (root / "val2017").iterdir():
        file.rename(target / file.name)
    (root / "val2017").rmdir()
    option = "&images=pictures" if "pictures" in place else ""
    dataset = open_dataset(f"coco:{root}?split=val2017{option}")
    assert dataset.ids == ["139", "285", "632"] and dataset.quarantine() == []


def annotation(**changes):
    return {"id": 50, "image_id": 285, "category_id": 1, "bbox": [1, 1, 3, 3], "iscrowd": 0, "area": 9} | changes


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (annotation(image_id=4), "dangling id"),
        (annotation(category_id=99), "dangling id"),
        (annotation(category_id=None), "field missing"),
        (annotation(image_id=[285]), "wrong type"),
        (annotation(bbox=[1, 1, 0, 3]), "box without area"),
        (annotation(bbox=[4, 4, -2, 3]), "box without area"),
        (annotation(bbox=[20, 1, 3, 3]), "box outside the picture"),
        (annotation(bbox=[-9, 1, 3, 3]), "box outside the picture"),
        (annotation(bbox=[1, 1, 3]), "wrong type"),
        (annotation(bbox=[1, 1, 3, "3"]), "wrong type"),
        (annotation(bbox="1 1 3 3"), "wrong type"),
        (annotation(bbox=[1, 1, float("nan"), 3]), "wrong type"),
        (annotation(bbox=None), "field missing"),
        (annotation(segmentation=[[1, 1, 3, 3]]), "mask broken"),
        (annotation(segmentation=[[1, 1, 3, 3, 2]]), "mask broken"),
        (annotation(segmentation={"size": [WIDTH, HEIGHT], "counts": [WIDTH * HEIGHT]}), "mask broken"),
        (annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": [3, 4]}), "mask broken"),
        (annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": "0c6"}), "mask broken"),
        (annotation(segmentation="none"), "mask broken"),
        (annotation(iscrowd="no"), "wrong type"),
        (annotation(attributes=[1]), "wrong type"),
    ],
)
def test_a_bad_annotation_is_rejected_and_its_picture_stays(root, instances, record, reason):
    edit(instances, lambda content: content["annotations"].append(record))
    ids, bad = kept(f"coco:{root}?split=val2017")
    assert bad == {"instances_val2017.json#50": reason} and ids == ["139", "285", "632"]
    by_id = {sample.id: sample for sample in open_dataset(f"coco:{root}?split=val2017")}
    assert len(by_id["285"].objects) == 1  # the good one of the same picture


@pytest.mark.parametrize("record", ["x", 3, None, [], {}])
def test_an_annotation_that_is_no_object_is_counted(root, instances, record):
    edit(instances, lambda content: content["annotations"].append(record))
    ids, bad = kept(f"coco:{root}?split=val2017")
    assert list(bad) == ["instances_val2017.json#[3]"] and len(ids) == 3


def test_bad_captions(root):
    def change(content):
        content["annotations"] += [
            {"image_id": 139, "id": 1, "caption": " "},
            {"image_id": 139, "id": 2, "caption": ["x"]},
            {"image_id": 77, "id": 3, "caption": "of nothing"},
        ]

    edit(root / "annotations" / "captions_val2017.json", change)
    ids, bad = kept(f"coco:{root}?split=val2017")
    names = [f"captions_val2017.json#{n}" for n in (1, 2, 3)]
    assert bad == dict(zip(names, ["caption empty", "wrong type", "dangling id"])) and len(ids) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"file_name": None}, "field missing"),
        ({"file_name": 7}, "wrong type"),
        ({"height": "12"}, "wrong type"),
        ({"id": 139}, "id not unique"),
    ],
)
def test_a_bad_picture_record_takes_its_annotations_along(tmp_path, change, reason):
    for n in (1, 2):
        picture(tmp_path / "one" / f"{n}.png")
    images = [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in (139, 2)]
    images[0]["file_name"] = "1.png"
    images[1] |= change
    annotations = [annotation(image_id=139), annotation(id=51, image_id=2)]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    dump(tmp_path / "one" / "anything.json", content)
    ids, bad = kept(f"coco:{tmp_path / 'one' / 'anything.json'}")
    expected = {"anything.json: images[1]": reason}
    if reason == "id not unique":
        expected["anything.json#51"] = "dangling id"
    assert ids == ["139"] and bad == expected


def test_missing_pictures_and_bad_categories_are_counted(root, instances):
    (root / "val2017" / "000000000285.jpg").unlink()
    edit(instances, lambda content: content["categories"][0].update(name=5))
    ids, bad = kept(f"coco:{root}?split=val2017")
    assert ids == ["139", "632"]
    assert bad == {
        "instances_val2017.json: categories[0]": "wrong type",
        "instances_val2017.json#900100000139": "dangling id",
        "instances_val2017.json#7": "dangling id",
        "285": "image missing",
    }


def test_a_path_out_of_the_folder_is_refused(root, instances):
    picture(root.parent / "secret.png")
    edit(instances, lambda content: content["images"][0].update(file_name="../../secret.png", id=1))
    assert kept(f"coco:{root}?split=val2017")[1]["1"] == "path outside the folder"


def test_a_box_that_overhangs_stays_as_written_and_a_mask_gives_a_missing_one(root, instances):
    ring = annotation(bbox=None, segmentation=[[2, 1, 6, 1, 6, 5, 2, 5]])
    edit(instances, lambda c: c["annotations"].extend([annotation(id=49, bbox=[-2, 3, 30, 4]), ring]))
    sample = {s.id: s for s in open_dataset(f"coco:{root}?split=val2017")}["285"]
    assert [(o.id, o.box) for o in sample.objects[1:]] == [("49", (-2, 3, 28, 7)), ("50", (2, 1, 6, 5))]


# ---------------------------------------------------------------- writing


def written_samples():
    """Two splits, with every kind of object that COCO can hold, and odd boxes."""
    data = {n: picture_bytes(n) for n in range(4)}
    ring = block(2, 2, 15, 10) & ~block(5, 4, 9, 8)
    things = [
        Object("dog", (2, 2, 15, 10), masks.encode(ring), ["brown", "wet"], "31"),
        Object("person", (0.1, 0.7, 17.333, 11.05), None, id="7", kind="crowd"),
        Object("grass", (0, 0, 20, 12), masks.encode(block(0, 0, 20, 12)), id="8", kind="stuff"),
    ]
    more = [Object("dog", (1, 1, 4, 3), masks.encode(block(1, 1, 4, 3)), id="9")]
    named = {n: {"file_name": f"{n:012d}.png"} for n in (5, 6, 12, 13)}
    return [
        Sample("5", [EncodedImage(data[0], "a.png")], ["A dog.", "Ein Hund, naß."], objects=things, texts=named[5],
               license="CC-BY", url="https://example.org/5.png", split="train"),
        Sample("12", [EncodedImage(data[1], "b.png")], objects=more, texts=named[12], split="train"),
        Sample("6", [EncodedImage(data[2], "c.png")], ["No thing."], texts=named[6], split="validation"),
        Sample("13", [EncodedImage(data[3], "d.png")], texts=named[13], split="validation"),
    ]  # fmt: skip


def picture_bytes(seed):
    values = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def test_what_is_written_opens_again_equal(tmp_path):
    samples = written_samples()
    assert FORMATS["coco"].write(iter(samples), tmp_path / "out") == {}
    dataset = open_dataset(tmp_path / "out")
    assert dataset.card["read_as"] == "coco" and dataset.quarantine() == []
    found = {sample.id: sample for sample in dataset}
    assert sorted(found) == sorted(sample.id for sample in samples)
    for sample in samples:
        sample.images[0].path = found[sample.id].images[0].path  # the only thing that a new place changes
        assert found[sample.id] == sample


@pytest.mark.parametrize("split", ["train", None])
def test_pycocotools_and_our_reader_read_identical_annotations(tmp_path, split):
    samples = [s for s in written_samples() if s.split == "train"]
    for sample in samples:
        sample.split = split
    FORMATS["coco"].write(samples, tmp_path / "out")
    suffix = f"_{split}" if split else ""
    reference = COCO(str(tmp_path / "out" / "annotations" / f"instances{suffix}.json"))
    found = [thing for sample in open_dataset(tmp_path / "out") for thing in sample.objects]
    assert len(found) == len(reference.anns) == 4
    written = {thing.id: thing for sample in samples for thing in sample.objects}
    for thing in found:
        theirs = reference.anns[int(thing.id)]
        x, y, width, height = theirs["bbox"]
        assert thing.box == (x, y, x + width, y + height) == written[thing.id].box
        assert reference.cats[theirs["category_id"]]["name"] == thing.name == written[thing.id].name
        assert (theirs["iscrowd"] == 1) == (thing.kind == "crowd") and thing.kind == written[thing.id].kind
        if thing.mask is None:
            assert theirs["area"] == width * height
            continue
        assert isinstance(theirs["segmentation"]["counts"], str)
        pixels = reference.annToMask(theirs).astype(bool)
        assert np.array_equal(pixels, masks.decode(thing.mask))
        assert np.array_equal(pixels, masks.decode(written[thing.id].mask))
        assert theirs["area"] == pixels.sum() == masks.area(thing.mask)
    for image in reference.imgs.values():
        picture = Image.open(tmp_path / "out" / "images" / (split or "") / image["file_name"])
        assert picture.size == (image["width"], image["height"])
    captions = COCO(str(tmp_path / "out" / "annotations" / f"captions{suffix}.json"))
    assert [a["caption"] for a in captions.loadAnns(captions.getAnnIds([5]))] == ["A dog.", "Ein Hund, naß."]


def test_ids_that_coco_cannot_hold_are_counted_anew(tmp_path):
    things = [
        [Object("cube", (1, 1, 3, 3), id="a")],
        [Object("cube", (1, 1, 3, 3), id="2"), Object("cone", (1, 1, 3, 3))],
    ]
    samples = [
        Sample(id, [EncodedImage(picture_bytes(n))], objects=things[n])
        for n, id in enumerate(("scene/0.png", "scene 1"))
    ]
    FORMATS["coco"].write(samples, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "annotations" / "instances.json").read_text())
    assert [(i["id"], i["file_name"]) for i in content["images"]] == [(1, "0.png"), (2, "scene_1.png")]
    assert [(a["id"], a["image_id"]) for a in content["annotations"]] == [(1, 1), (2, 2), (3, 2)]
    assert not (tmp_path / "out" / "annotations" / "captions.json").exists()
    assert [len(sample.objects) for sample in open_dataset(tmp_path / "out")] == [1, 2]


def test_splits_of_any_name_keep_their_rows(tmp_path):
    splits = ["v1.0", "v1.1", "train2", "2017", "a/b", "a b", "A/B", "..", "validation"]
    samples = [Sample(str(n), [EncodedImage(picture_bytes(n))], split=split) for n, split in enumerate(splits, 1)]
    FORMATS["coco"].write(samples, tmp_path / "out")
    found = {sample.id: sample.split for sample in open_dataset(tmp_path / "out")}
    kept = ["v1.0", "v1.1", "train2", "2017", "a_b", "a_b-2", "A_B-3", "_", "validation"]
    assert [found[sample.id] for sample in samples] == kept


def test_what_coco_cannot_hold_is_counted(tmp_path):
    one = EncodedImage(picture_bytes(1))
    things = [
        Object("a"),
        Object("b", mask=masks.encode(np.ones((4, 4), bool))),
        Object("c", mask=masks.encode(block(1, 2, 3, 4))),
    ]
    samples = [
        Sample("none", []),
        Sample("two", [one, one]),
        Sample("broken", [EncodedImage(b"GIF89a")]),
        Sample("gone", [EncodedImage(None, str(tmp_path / "gone.png"))]),
        Sample("good", [one], objects=things),
    ]
    assert FORMATS["coco"].write(samples, tmp_path / "out") == {
        "not one picture": 2,
        "image truncated": 1,
        "image missing": 1,
        "object without box and mask": 1,
        "mask of another size than its picture": 1,
    }
    (sample,) = open_dataset(tmp_path / "out")
    assert [(o.name, o.box) for o in sample.objects] == [("c", (1, 2, 3, 4))]
    assert [file.name for file in (tmp_path / "out" / "images").iterdir()] == ["good.png"]
    with pytest.raises(InputError, match="expected an empty or a new folder"):
        FORMATS["coco"].write([], tmp_path / "out")


# ---------------------------------------------------------------- panoptic


@pytest.fixture
def segmented(tmp_path):
    panoptic(tmp_path / "panoptic")
    return tmp_path / "panoptic"


def test_segments_become_objects(segmented):
    found = {sample.id: sample for sample in open_dataset(segmented)}
    assert [(o.name, o.kind, o.id) for o in found["139"].objects] == [
        ("dog", "thing", "8345"),
        ("person", "crowd", "70000"),
        ("grass", "stuff", "3"),
    ]
    dog, crowd, grass = found["139"].objects
    assert dog.box == (2, 1, 6, 5) and crowd.box == (8, 6, 20, 9)
    assert np.array_equal(masks.decode(dog.mask), block(2, 1, 6, 5))
    rest = block(0, 0, 20, 11) & ~block(2, 1, 6, 5) & ~block(8, 6, 20, 9)  # the last row belongs to no segment
    assert np.array_equal(masks.decode(grass.mask), rest)
    assert masks.decode(found["285"].objects[0].mask).all() and found["285"].split == "validation"
    assert found["139"].license == f"{LICENSES[0]['name']} ({LICENSES[0]['url']})"


def test_the_folder_of_segments_may_lie_beside(segmented):
    (segmented / "annotations" / "panoptic_val2017").rename(segmented / "panoptic_val2017")
    assert len(open_dataset(segmented)) == 2
    (segmented / "panoptic_val2017").rename(segmented / "segments")
    assert kept(f"coco-panoptic:{segmented}")[1] == {"139": "mask missing", "285": "mask missing"}
    assert len(open_dataset(f"coco-panoptic:{segmented}?segments=segments&split=val2017")) == 2


def test_segments_that_one_side_does_not_know_are_counted(segmented):
    def change(content):
        infos = content["annotations"][0]["segments_info"]
        infos[0]["id"] = 8346  # the PNG has 8345
        infos.append({"id": 3, "category_id": 125, "iscrowd": 0})  # twice
        content["annotations"][1]["segments_info"][0]["category_id"] = 4

    edit(segmented / "annotations" / "panoptic_val2017.json", change)
    dataset = open_dataset(segmented)
    name = "panoptic_val2017.json#000000000139.png"
    assert [(row.id, row.reason) for row in dataset.quarantine()] == [
        (f"{name}/8346", "dangling id"),
        (f"{name}/3", "dangling id"),
        (name, "dangling id"),
        ("panoptic_val2017.json#000000000285.png/3", "dangling id"),
    ]
    assert "1 segments not in panoptic_val2017.json: 8345" in dataset.quarantine()[2].detail
    assert [len(sample.objects) for sample in dataset] == [2, 0]


def test_a_picture_whose_map_cannot_be_read_is_rejected(segmented):
    folder = segmented / "annotations" / "panoptic_val2017"
    whole = (folder / "000000000139.png").read_bytes()
    (folder / "000000000139.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (5, 5)).save(folder / "000000000285.png")
    assert kept(segmented) == ([], {"139": "mask broken", "285": "mask broken"})
    edit(
        segmented / "annotations" / "panoptic_val2017.json",
        lambda content: content["annotations"][0].update(file_name="../../val2017/000000000139.jpg"),
    )
    assert kept(segmented)[1]["139"] == "path outside the folder"
    edit(
        segmented / "annotations" / "panoptic_val2017.json",
        lambda content: content["annotations"][0].update(segments_info={}),
    )
    assert kept(segmented)[1]["139"] == "wrong type"
