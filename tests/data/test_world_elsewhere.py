"""The generated world in every format that is written: opened again equal, and read by the programs of other people."""

import json

import datasets
import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image
from pycocotools.coco import COCO

from diptych.data import export_dataset, masks, open_dataset
from diptych.data.formats import FORMATS

WORLD = "scenes:?n=12&size=48&seed=5"


@pytest.fixture(scope="module")
def world():
    return open_dataset(WORLD)


@pytest.fixture(scope="module")
def written(world, tmp_path_factory):
    """format -> folder, for every format that can be written."""
    folder = tmp_path_factory.mktemp("written")
    for kind in (name for name, format in FORMATS.items() if format.write is not None):
        report = export_dataset(world, f"{kind}:{folder / kind}")
        unanswered = sum(not one.answers for sample in world for one in sample.questions)
        left_out = {"question without an answer": unanswered} if kind == "vqa" else {}
        assert (report.samples, report.left_out) == (12, left_out), kind
    return folder


def pictures(dataset):
    return [[image.data for image in sample.images] for sample in dataset]


def test_every_format_opens_again(world, written):
    opened = {folder.name: open_dataset(folder) for folder in written.iterdir()}
    assert set(opened) == {"coco", "wds", "parquet", "chat", "table", "folder", "vqa"}
    for kind, dataset in opened.items():
        assert len(dataset) == 12 and dataset.card.get("rejected", {}) == {}, kind
        assert pictures(dataset) == pictures(world), kind
    for kind in ("wds", "parquet"):
        assert list(opened[kind]) == list(world)
    for kind in ("coco", "folder", "table"):
        assert opened[kind].column("captions") == world.column("captions"), kind
    assert all(sample.messages for sample in opened["chat"])
    for ours, theirs in zip(world, opened["vqa"]):
        told = [(one.question, one.answers) for one in ours.questions if one.answers]
        assert [(one.question, one.answers) for one in theirs.questions] == told
    for ours, theirs in zip(world, opened["coco"]):
        names = ("name", "mask", "attributes", "kind")
        assert [[getattr(thing, name) for name in names] for thing in theirs.objects] == [
            [getattr(thing, name) for name in names] for thing in ours.objects
        ]
        assert np.allclose([thing.box for thing in theirs.objects], [thing.box for thing in ours.objects])


def test_pycocotools_reads_identical_annotations(world, written):
    (file,) = (written / "coco" / "annotations").glob("instances*.json")
    reference = COCO(str(file))
    rows = list(reference.imgs.values())
    assert len(rows) == 12
    for sample, row in zip(world, rows):
        theirs = reference.loadAnns(reference.getAnnIds([row["id"]]))
        assert len(theirs) == len(sample.objects) > 0
        for thing, annotation in zip(sample.objects, theirs):
            x, y, width, height = annotation["bbox"]
            assert np.allclose((x, y, x + width, y + height), thing.box)
            assert np.array_equal(reference.annToMask(annotation).astype(bool), masks.decode(thing.mask))
            assert reference.cats[annotation["category_id"]]["name"] == thing.name
            assert annotation["area"] == masks.area(thing.mask)
    (file,) = (written / "coco" / "annotations").glob("captions*.json")
    captions = COCO(str(file))
    found = [[a["caption"] for a in captions.loadAnns(captions.getAnnIds([row["id"]]))] for row in rows]
    assert found == world.column("captions")


def test_webdataset_reads_the_shards(world, written):
    rows = list(webdataset.WebDataset(str(written / "wds" / "00000.tar"), shardshuffle=False).decode("pil"))
    assert [row["json"]["id"] for row in rows] == world.ids
    for row, sample in zip(rows, world):
        assert row["txt"] == sample.captions[0] and row["json"]["captions"] == sample.captions
        (picture,) = (value for value in row.values() if isinstance(value, Image.Image))
        assert picture.size == (48, 48)
        assert len(row["json"]["objects"]) == len(sample.objects)


def test_datasets_and_duckdb_read_the_parquet(world, written, tmp_path):
    found = datasets.load_dataset(str(written / "parquet"), split="train", cache_dir=str(tmp_path))
    assert found["id"][:] == world.ids and found["captions"][:] == world.column("captions")
    assert [[image["bytes"] for image in row] for row in found["images"]] == pictures(world)
    assert [len(row) for row in found["questions"]] == [len(sample.questions) for sample in world]
    query = f"select id, len(objects), objects[1].mask.counts, captions from '{written}/parquet/*.parquet' order by id"
    assert duckdb.sql(query).fetchall() == sorted(
        (s.id, len(s.objects), s.objects[0].mask.counts, s.captions) for s in world
    )


def test_datasets_reads_the_folder_and_tables_are_as_open_clip_wants_them(world, written, tmp_path):
    found = datasets.load_dataset(
        "imagefolder", data_dir=str(written / "folder"), split="train", cache_dir=str(tmp_path)
    )
    assert found["captions"][:] == world.column("captions") and found[0]["image"].size == (48, 48)
    lines = (written / "table" / "pairs.tsv").read_text().splitlines()
    assert lines[0] == "filepath\ttitle" and len(lines) == 1 + sum(map(len, world.column("captions")))
    assert all((written / "table" / line.split("\t")[0]).is_file() for line in lines[1:])
    turns = [json.loads(line) for line in (written / "chat" / "chat.jsonl").read_text().splitlines()]
    assert all(turn["messages"][0]["content"].startswith("<image>") for turn in turns)
    assert pq.read_metadata(next((written / "parquet").glob("*.parquet"))).num_rows == 12
