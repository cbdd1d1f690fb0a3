"""Tar shards that are written open again equal, here and in the webdataset package."""

import signal
import subprocess
import sys
import tarfile
import time

import pytest
import webdataset
from tar_files import picture, rejected, tar

from diptych.data import export_dataset, open_dataset
from diptych.data.formats import wds
from diptych.data.store import Dataset, DatasetWriter
from diptych.types import (
    EncodedImage,
    InputError,
    Mask,
    Message,
    Negative,
    Object,
    Question,
    Region,
    Relation,
    Sample,
)


def full(id="a/b.c d") -> Sample:
    """A sample with every field."""
    return Sample(
        id=id,
        images=[
            EncodedImage(picture(3, "PNG"), "left.jpg"),
            EncodedImage(picture(4, "WEBP")),
            EncodedImage(None, "http://x/y.jpg"),
        ],
        captions=["first\nline", "zweite – 二"],
        label="cat",
        tags=["x", "y"],
        objects=[
            Object("cube", (0.5, 1.0, 2.25, 3.0), Mask(8, 8, b"\x01\xffP1"), ["red"], "o1", "crowd", 2.5),
            Object("sky", None, None, [], "", "stuff"),
        ],
        relations=[Relation(0, "left of", 1)],
        regions=[Region("the cube", (0.0, 0.0, 1.0, 1.0), 0), Region("all")],
        questions=[
            Question("how many?", ["2", "two", "2"], "count", "q1", ["1", "2"], True, '{"f": []}'),
            Question("which horse?", answerable=False),
        ],
        negatives=[Negative("a blue cube", "attributes swapped", 1)],
        messages=[Message("user", "<image> what?"), Message("assistant", "a cube")],
        texts={"title": "T", "path": "left.jpg"},
        source="s",
        license="CC0",
        url="http://x",
        creator="Ann",
        split="train",
        group="g",
        scores={"clip": 0.25, "aesthetic": -1e-9},
    )


def test_what_is_written_reads_back_equal(tmp_path):
    samples = [full(), Sample("empty"), Sample("x" * 500, captions=["c"]), Sample("x" * 499 + "y", captions=["d"])]
    assert wds.write(samples, tmp_path / "out") == {}
    dataset = open_dataset(f"wds:{tmp_path}/out")
    assert list(dataset) == samples
    assert dataset.take([0], {"captions"}) == [Sample(full().id, captions=full().captions)]
    assert dataset.column("scores.clip") == [0.25, None, None, None] and dataset.quarantine() == []


def test_written_members_carry_what_their_names_say(tmp_path):
    path = tmp_path / "file.dat"
    path.write_bytes(picture(9, "GIF"))
    wds.write([full(), Sample("one.two/three", [EncodedImage(None, str(path))], ["words"])], tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "00000.tar") as opened:
        files = {member.name: opened.extractfile(member).read() for member in opened}
    assert list(files) == [
        *(f"a%2Fb%2Ec%20d.{suffix}" for suffix in ("0.png", "1.webp", "txt", "json")),
        *(f"one%2Etwo%2Fthree.{suffix}" for suffix in ("gif", "txt", "json")),
    ]
    assert files["one%2Etwo%2Fthree.gif"] == path.read_bytes() and files["a%2Fb%2Ec%20d.txt"] == b"first\nline"
    wds.write([full()], tmp_path / "again")
    wds.write([full()], tmp_path / "once more")
    assert (tmp_path / "again/00000.tar").read_bytes() == (tmp_path / "once more/00000.tar").read_bytes()


def test_shards_are_bounded_and_missing_pictures_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(wds, "SHARD_ROWS", 4)
    samples = [Sample(f"{i % 5}", captions=[str(i)]) for i in range(10)]
    samples.insert(3, Sample("gone", [EncodedImage(None, str(tmp_path / "gone.jpg"))]))
    assert wds.write(samples, tmp_path / "out") == {"image missing": 1}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["00000.tar", "00001.tar", "00002.tar"]
    dataset = open_dataset(f"wds:{tmp_path}/out/{{00000..00002}}.tar")
    assert dataset.ids == ["0", "1", "2", "3", "4", "0#2", "1#2", "2#2", "3#2", "4#2"]
    assert [shard["rows"] for shard in dataset.card["shards"]] == [4, 4, 2]
    with pytest.raises(InputError, match="holds tar files already"):
        wds.write(samples, tmp_path / "out")
    wds.write([], tmp_path / "none")
    with pytest.raises(InputError, match="expected tar files with members"):
        open_dataset(f"wds:{tmp_path}/none")


def test_a_hand_edited_json_is_a_counted_row(tmp_path):
    rows = [b'{"diptych": 1, "id": "a"}', b'{"diptych": 1}', b'{"diptych": 1, "id": "c", "objects": [{}]}']
    rows.append(b'{"diptych": 1, "id": "d", "images": [{"path": null, "member": "jpg"}]}')
    tar(tmp_path / "a.tar", {f"{key}.json": row for key, row in zip("abcd", rows)})
    dataset = open_dataset(f"wds:{tmp_path}/a.tar")
    assert len(list(dataset)) == 4
    assert rejected(dataset) == {"b": "row broken", "c": "row broken", "d": "image missing"}


def test_the_webdataset_package_reads_ours(tmp_path):
    wds.write([full(f"{i}") for i in range(5)], tmp_path / "out")
    theirs = list(webdataset.WebDataset(str(tmp_path / "out" / "00000.tar"), shardshuffle=False).decode("pil"))
    assert [row["__key__"] for row in theirs] == [str(i) for i in range(5)]
    assert theirs[0]["txt"] == "first\nline" and theirs[0]["json"]["captions"][1] == "zweite – 二"
    assert theirs[0]["0.png"].size == (8, 8) and theirs[0]["json"]["id"] == "0"


def test_ours_reads_what_the_webdataset_package_writes(tmp_path):
    with webdataset.ShardWriter(str(tmp_path / "s-%06d.tar"), maxcount=4, verbose=0) as out:
        for i in range(10):
            facts = {"license": "CC0", "n": i}
            out.write({"__key__": f"k{i:03d}", "jpg": picture(i), "txt": f"caption {i}", "cls": i, "json": facts})
    dataset = open_dataset(f"wds:{tmp_path}/s-{{000000..000002}}.tar")
    assert dataset.ids == [f"k{i:03d}" for i in range(10)]
    assert dataset[7].captions == ["caption 7"] and dataset[7].label == "7" and dataset[7].license == "CC0"
    assert dataset[7].texts["n"] == "7" and dataset[7].images[0].data == picture(7)


def test_export_and_open_again(tmp_path):
    with DatasetWriter(tmp_path / "d") as out:
        for i in range(3):
            out.write(Sample(f"{i}", [EncodedImage(picture(i))], [f"c{i}"], scores={"s": float(i)}))
    dataset = Dataset.open(tmp_path / "d")
    export_dataset(dataset, f"wds:{tmp_path}/out")
    assert list(open_dataset(f"wds:{tmp_path}/out")) == list(dataset)


WRITER = """
import itertools, sys
from pathlib import Path
from diptych.data.formats import wds
from diptych.types import Sample
wds.SHARD_ROWS = 50
wds.write((Sample(str(i), captions=["words " * 200]) for i in itertools.count()), Path(sys.argv[1]))
"""


def test_a_killed_writer_leaves_only_whole_shards(tmp_path):
    folder = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)])
    try:
        until = time.monotonic() + 60
        while not (folder / "00003.tar").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    tars = sorted(folder.glob("*.tar"))
    assert len(tars) >= 4
    for path in tars:
        with tarfile.open(path) as opened:
            assert len(opened.getmembers()) == 100
    dataset = open_dataset(f"wds:{folder}")
    assert dataset.ids == [str(i) for i in range(50 * len(tars))] and dataset.quarantine() == []
