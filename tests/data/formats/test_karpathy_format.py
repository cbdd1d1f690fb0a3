"""Karpathy's split files: captions, splits and places of pictures, and what is rejected."""

import pytest
from fixtures_annotations import edit, karpathy_coco, karpathy_flickr
from fixtures_annotations import kept_and_rejected as kept

from diptych.data import open_dataset
from diptych.types import EncodedImage, InputError


@pytest.fixture
def root(tmp_path):
    karpathy_coco(tmp_path / "coco")
    return tmp_path / "coco"


def test_coco(root):
    samples = list(open_dataset(root))
    assert [(s.id, s.split) for s in samples] == [
        ("391895", "test"),
        ("391896", "restval"),
        ("391897", "validation"),
        ("391898", "train"),
    ]
    path = "val2014/COCO_val2014_000000391895.jpg"
    assert samples[0].images == [EncodedImage((root / path).read_bytes(), path)]
    assert samples[0].captions == ["A man, number 0.", "A person, number 0."]
    assert samples[0].texts == {"file_name": "COCO_val2014_000000391895.jpg"}


def test_flickr30k_has_no_coco_ids_and_no_folders(tmp_path):
    karpathy_flickr(tmp_path / "flickr")
    (sample,) = open_dataset(tmp_path / "flickr")
    assert (sample.id, sample.split, sample.captions) == ("0", "train", ["Two young guys."])
    assert sample.images[0].path == "flickr30k-images/1000092795.jpg"


@pytest.mark.parametrize("place", ["", "images", "Flicker8k_Dataset", "elsewhere"])
def test_pictures_may_lie_elsewhere(tmp_path, place):
    root = tmp_path / "flickr"
    karpathy_flickr(root)
    (root / place).mkdir(exist_ok=True)
    (root / "flickr30k-images" / "1000092795.jpg").rename(root / place / "1000092795.jpg")
    option = "?images=elsewhere" if place == "elsewhere" else ""
    dataset = open_dataset(f"karpathy:{root}{option}")
    assert dataset.ids == ["0"] and dataset.quarantine() == []


def test_the_options(root):
    def ids(options):
        return [(sample.id, sample.split) for sample in open_dataset(f"karpathy:{root}?{options}")]

    assert ids("restval=train") == [
        ("391895", "test"),
        ("391896", "train"),
        ("391897", "validation"),
        ("391898", "train"),
    ]
    assert ids("restval=train&split=train") == [("391896", "train"), ("391898", "train")]
    assert ids("split=train") == [("391898", "train")]
    assert ids("split=restval") == [("391896", "restval")]
    assert ids("split=val") == ids("split=validation") == [("391897", "validation")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"filename": None}, "field missing"),
        ({"filename": 3}, "wrong type"),
        ({"filename": "gone.jpg"}, "image missing"),
        ({"filepath": ["val2014"]}, "wrong type"),
        ({"filepath": "../.."}, "path outside the folder"),
        ({"sentences": "A man."}, "wrong type"),
        ({"sentences": []}, "caption empty"),
        ({"sentences": [{"raw": " "}]}, "caption empty"),
        ({"sentences": [{"tokens": ["a"]}]}, "field missing"),
        ({"sentences": ["A man."]}, "wrong type"),
        ({"split": 4}, "wrong type"),
        ({"cocoid": "391896"}, "wrong type"),
    ],
)
def test_a_bad_record_is_counted(root, change, reason):
    edit(root / "dataset_coco.json", lambda content: content["images"][1].update(change))
    ids, bad = kept(root)
    assert list(bad.values()) == [reason] and ids == ["391895", "391897", "391898"]


def test_no_records_and_two_files(root):
    edit(root / "dataset_coco.json", lambda content: content.update(images=[None, 3]))
    assert kept(f"karpathy:{root}") == (
        [],
        {"dataset_coco.json: images[0]": "wrong type", "dataset_coco.json: images[1]": "wrong type"},
    )
    karpathy_coco(root)
    (root / "dataset_flickr30k.json").write_bytes((root / "dataset_coco.json").read_bytes())
    with pytest.raises(InputError, match="expected one file .* got dataset_coco.json, dataset_flickr30k.json"):
        open_dataset(f"karpathy:{root}")
    assert len(open_dataset(f"karpathy:{root / 'dataset_coco.json'}")) == 4
