"""Mixtures: the rows of several datasets as one, with weights, caps, and the truth about what is there."""

from collections import Counter

import numpy as np
import pytest
import raw_pictures as raw

from diptych.data import Dataset, DatasetWriter, export_dataset, import_dataset, open_dataset
from diptych.types import EncodedImage, InputError, Sample


@pytest.fixture
def folder(tmp_path):
    """Ten pairs, four pictures without captions, three texts."""
    with DatasetWriter(tmp_path / "pairs") as out:
        for i in range(10):
            out.write(Sample(f"p{i}", [EncodedImage(raw.png(i))], [f"pair {i}"], source="known"))
    with DatasetWriter(tmp_path / "pictures") as out:
        for i in range(4):
            out.write(Sample(f"i{i}", [EncodedImage(raw.png(20 + i))], label="cat"))
    (tmp_path / "texts.txt").write_text("one\ntwo\nthree\n")
    return tmp_path


def mixture(folder, text):
    (folder / "mix.toml").write_text(text)
    return open_dataset(f"mix:{folder / 'mix.toml'}")


PARTS = """
name = "all"
[[parts]]
data = "pairs"
weight = 2.5
cap = 4
[[parts]]
data = "pictures"
name = "pics"
weight = 0.5
[[parts]]
data = "text:texts.txt"
"""


def test_weights_and_caps_count_rows(folder):
    mixed = mixture(folder, PARTS)
    assert mixed.name == "all" and len(mixed) == 4 * 2 + 2 + 2 + 3
    ids = mixed.ids
    assert len(set(ids)) == len(ids)
    of_pairs = Counter(id.split("#")[0] for id in ids if id.startswith("pairs/"))
    assert sorted(of_pairs.values()) == [2, 2, 3, 3]
    assert sum(id.startswith("pics/") for id in ids) == 2 and ids[-1] == "text:texts.txt/texts.txt:3"
    assert [part["taken"] for part in mixed.card["parts"]] == [10, 2, 3]
    assert mixture(folder, PARTS).ids == ids and mixture(folder, PARTS).fingerprint() == mixed.fingerprint()
    other = mixture(folder, "seed = 1\n" + PARTS)
    assert sorted(other.ids) != sorted(ids) and other.fingerprint() != mixed.fingerprint()


def test_rows_are_those_of_the_parts_in_any_order(folder):
    mixed = mixture(folder, PARTS)
    order = np.random.default_rng(0).permutation(len(mixed))
    taken = mixed.take(order)
    assert [s.id for s in taken] == [mixed.ids[i] for i in order]
    assert mixed.select(order).column("captions") == [s.captions for s in taken]
    own = {s.id: s for s in open_dataset(folder / "pairs")}
    for sample in taken:
        if sample.id.startswith("pairs/"):
            assert sample.captions == own[sample.id.split("/")[1].split("#")[0]].captions
    assert mixed.take([0], fields=("captions",))[0].images == []
    sources = {s.id.rsplit("/", 1)[0]: s.source for s in mixed}
    assert sources == {"pairs": "known", "pics": "pics", "text:texts.txt": "text:texts.txt"}
    assert set(mixed.column("source")) == set(sources.values())


def test_a_mixture_can_be_imported_and_split(folder):
    mixed = mixture(folder, PARTS)
    report = import_dataset(mixed.address, folder / "copy")
    assert report.format == "mix" and report.rows == len(mixed)
    assert list(Dataset.open(folder / "copy")) == list(mixed)
    rest, held_out = mixed.split(0.5, by="source")
    assert len(rest) + len(held_out) == len(mixed) and not set(rest.column("source")) & set(held_out.column("source"))


def test_what_is_absent_is_said(folder):
    text = PARTS + '[[parts]]\ndata = "coco:nowhere"\nname = "COCO"\nexpected = 900_000\n'
    with pytest.raises(InputError, match=r"mix.toml: parts.3 \(COCO\): .*nowhere"):
        mixture(folder, text)
    mixed = mixture(folder, text + "optional = true\n")
    assert mixed.card["parts"][3] == {"name": "COCO", "state": "absent", "expected": 900_000, "rows": 0, "taken": 0}


def test_optional_parts_that_are_no_single_file_are_found(folder):
    export_dataset(open_dataset(folder / "pairs"), f"wds:{folder / 'shards'}")
    parts = ("clipart", "scenes:?n=2&size=32", "wds:shards/{00000..00000}.tar", "wds:shards/*.tar", "mix:pmd?root=.")
    absent = ("wds:none-{0..3}.tar", "mix:none.toml", "pairs/none")
    text = "".join(f'[[parts]]\ndata = "{data}"\noptional = true\n' for data in (*parts, *absent))
    found = {part["name"]: part["state"] for part in mixture(folder, text).card["parts"]}
    assert found == dict.fromkeys(parts, "present") | dict.fromkeys(absent, "absent")
    text = '[[parts]]\ndata = "wds:shards/{00000..00001}.tar"\noptional = true\n'
    with pytest.raises(InputError, match="00001.tar: no such file"):  # half of it is no optional whole
        mixture(folder, text)


def test_the_mixture_of_flava_is_seventy_million_pairs(tmp_path):
    mixed = open_dataset(f"mix:pmd?root={tmp_path}")
    assert len(mixed) == 0 and {part["state"] for part in mixed.card["parts"]} == {"absent"}
    assert sum(part["expected"] for part in mixed.card["parts"]) == 70_000_000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "parts"),
        ("[[parts]]\nweight = 1", "data"),
        ('[[parts]]\ndata = "pairs"\nwight = 2', "wight"),
        ('[[parts]]\ndata = "pairs"\nweight = 0', "finite weight above 0"),
        ('[[parts]]\ndata = "pairs"\nweight = nan', "finite weight above 0"),
        ('[[parts]]\ndata = "pairs"\nweight = inf', "finite weight above 0"),
        ('[[parts]]\ndata = "mix:mix.toml"', "the mixture is a part of itself"),
        ('[[parts]]\ndata = "pairs"\ncap = 0', "cap of at least 1"),
        ('[[parts]]\ndata = "pairs"\n[[parts]]\ndata = "pairs"', "two parts have one name"),
        ("[[parts]", "cannot be read as TOML"),
    ],
)
def test_a_wrong_file_is_one_sentence(folder, text, says):
    with pytest.raises(InputError, match=says):
        mixture(folder, text)


def test_a_mixture_that_is_not_there_says_which_are(folder):
    with pytest.raises(InputError, match="no such file; the mixtures that come with the package are pmd"):
        open_dataset(f"mix:{folder / 'none.toml'}")


def test_an_option_that_does_not_exist_is_refused(folder):
    (folder / "mix.toml").write_text(PARTS)
    with pytest.raises(InputError, match="no option 'rot'; it has root"):
        open_dataset(f"mix:{folder / 'mix.toml'}?rot=x")
