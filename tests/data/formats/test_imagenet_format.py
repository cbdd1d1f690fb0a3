"""ImageNet's folders: names of classes, splits, and the labels of a flat validation set."""

import pytest
from fixtures_annotations import imagenet, imagenet_kaggle, picture, text
from fixtures_annotations import kept_and_rejected as kept

from diptych.data import open_dataset
from diptych.data.formats import recognise
from diptych.types import InputError


@pytest.fixture
def root(tmp_path):
    imagenet(tmp_path / "imagenet")
    return tmp_path / "imagenet"


@pytest.fixture
def flat(tmp_path):
    """A flat validation set of three pictures, two classes in train, no labels yet."""
    root = tmp_path / "flat"
    for n in (1, 2, 3):
        picture(root / "val" / f"ILSVRC2012_val_0000000{n}.JPEG", n)
    for wnid in ("n01440764", "n02119789"):
        picture(root / "train" / wnid / f"{wnid}_1.JPEG")
    return root


def labels(source):
    return {sample.id: sample.label for sample in open_dataset(source)}


def test_labels_are_the_first_nouns_and_shared_ones_carry_their_id(root):
    samples = {sample.id: sample for sample in open_dataset(root)}
    assert {id: (s.label, s.split) for id, s in samples.items()} == {
        "test/ILSVRC2012_test_00000001": (None, "test"),
        "train/n01440764/n01440764_10020": ("tench", "train"),
        "train/n02012849/n02012849_10021": ("crane (n02012849)", "train"),
        "train/n03126707/n03126707_10022": ("crane (n03126707)", "train"),
        "val/n01440764/ILSVRC2012_val_00000290": ("tench", "validation"),
        "val/n02012849/ILSVRC2012_val_00000291": ("crane (n02012849)", "validation"),
        "val/n03126707/ILSVRC2012_val_00000292": ("crane (n03126707)", "validation"),
    }
    tench = samples["train/n01440764/n01440764_10020"]
    assert tench.tags == ["n01440764"] and tench.texts["synset"] == "tench, Tinca tinca"
    assert tench.images[0].path == "train/n01440764/n01440764_10020.JPEG"


@pytest.mark.parametrize("name", ["words.txt", "synset_words.txt"])
def test_other_files_of_names(root, name):
    (root / "LOC_synset_mapping.txt").unlink()
    text(root / name, "n01440764\ttench, Tinca tinca\nn02012849\tcrane\n")
    found = labels(f"imagenet:{root}?split=train")
    assert list(found.values()) == ["tench", "crane", "n03126707"]


def test_without_a_file_the_thousand_classes_have_their_names_and_others_their_id(root):
    (root / "LOC_synset_mapping.txt").unlink()
    picture(root / "train" / "n99999999" / "n99999999_1.JPEG")
    first, *_, last = open_dataset(f"imagenet:{root}?split=train")
    assert (first.label, first.tags) == ("tench", ["n01440764"]) and first.texts["synset"] == "tench, Tinca tinca"
    assert (last.label, last.tags) == ("n99999999", ["n99999999"]) and "synset" not in last.texts


def test_classes_at_the_top(tmp_path):
    for wnid in ("n01440764", "n02119789"):
        picture(tmp_path / "top" / wnid / f"{wnid}_1.JPEG")
    (tmp_path / "top" / "other").mkdir()
    assert recognise(tmp_path / "top") == "imagenet"
    samples = list(open_dataset(tmp_path / "top"))
    assert [(s.label, s.split) for s in samples] == [("tench", None), ("kit fox", None)]


def test_kaggles_layout_with_its_table_of_labels(tmp_path):
    imagenet_kaggle(tmp_path / "kaggle")
    assert labels(tmp_path / "kaggle") == {
        "train/n01440764/n01440764_18": "tench",
        "val/ILSVRC2012_val_00037956": "tench",
        "val/ILSVRC2012_val_00048981": "power drill",
    }


def val(root, options=""):
    found = labels(f"imagenet:{root}?split=val{options}")
    return [found.get(f"val/ILSVRC2012_val_0000000{n}") for n in (1, 2, 3)]


def test_labels_of_a_flat_validation_set(flat):
    assert val(flat) == [None, None, None]
    text(flat / "imagenet_2012_validation_synset_labels.txt", "n01440764\nn02119789\nn01440764\n")
    assert val(flat) == ["tench", "kit fox", "tench"]


def test_numbers_of_the_development_kit_need_its_own_order(flat):
    text(flat / "ILSVRC2012_validation_ground_truth.txt", "2\n1\n2\n")
    text(flat / "LOC_synset_mapping.txt", "n01440764 tench, Tinca tinca\nn02119789 kit fox, Vulpes macrotis\n")
    with pytest.raises(InputError, match="follow an order of its own; expected map_clsloc.txt"):
        open_dataset(flat)  # the sorted order of the mapping would be wrong: number 1 is the kit fox
    text(flat / "map_clsloc.txt", "n02119789 1 kit_fox\nn01440764 2 tench\n")
    assert val(flat) == ["tench", "kit fox", "tench"]
    text(flat / "order.txt", "n01440764 tench\nn02119789\n")
    assert val(flat, "&classes=order.txt") == ["kit fox", "tench", "kit fox"]


@pytest.mark.parametrize(
    ("truth", "order", "message"),
    [
        ("2\nx\n", "n02119789\nn01440764\n", "line 2: expected a number of a class, got 'x'"),
        ("2\n3\n", "n02119789\nn01440764\n", "line 2: expected a number of a class, got '3'"),
        ("2\n1\n", "kit fox\n", "order.txt: expected lines that begin with a WordNet id"),
    ],
)
def test_bad_ground_truth_is_one_sentence(flat, truth, order, message):
    text(flat / "ILSVRC2012_validation_ground_truth.txt", truth)
    text(flat / "order.txt", order)
    with pytest.raises(InputError, match=message):
        open_dataset(f"imagenet:{flat}?classes=order.txt")
    (flat / "order.txt").write_bytes(b"n02119789 \xff\n")
    with pytest.raises(InputError, match="cannot be read as text"):
        open_dataset(f"imagenet:{flat}?classes=order.txt")


def test_bad_rows_are_counted(flat):
    text(flat / "imagenet_2012_validation_synset_labels.txt", "n01440764\nfish\n")
    picture(flat / "train" / "dogs" / "1.JPEG")
    (flat / "train" / "n02119789" / "n02119789_1.JPEG").write_bytes(b"\xff\xd8\xff")
    ids, bad = kept(flat)
    assert ids == ["train/n01440764/n01440764_1", "val/ILSVRC2012_val_00000001"]
    assert bad == {
        "train/dogs/1.JPEG": "label unknown",
        "train/n02119789/n02119789_1": "image truncated",
        "val/ILSVRC2012_val_00000002.JPEG": "label unknown",
        "val/ILSVRC2012_val_00000003.JPEG": "label missing",
    }


def test_a_split_that_is_not_there(root):
    with pytest.raises(InputError, match="no pictures in the folder dev"):
        open_dataset(f"imagenet:{root}?split=dev")
