"""The Parquet store: what goes in comes out, whole or not at all, and other engines read it."""

import json
import multiprocessing
import os
import random
import signal
import threading

import datasets
import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from diptych.data import parquet_store, writer
from diptych.data.store import SCHEMA, Dataset, DatasetWriter, image_source, is_store
from diptych.images import BadImage
from diptych.types import EncodedImage, InputError, Mask, Object, Question, Rejected, Relation, Sample

FULL = Sample(
    id="full",
    images=[EncodedImage(b"one", "a/1.png"), EncodedImage(b"two", None)],
    captions=["a cat", "eine Katze 🐈"],
    label="cat",
    tags=["animal", "pet"],
    objects=[Object("cat", (1.5, 2, 3, 4), Mask(5, 6, b"rle\xff"), ["black"]), Object("mat")],
    relations=[Relation(0, "sits on", 1)],
    questions=[Question("how many?", ["1", "one"], "count")],
    texts={"title": "Cat", "description": ""},
    source="here",
    license="CC0",
    url="https://example.org",
    creator="Ann",
    split="train",
    scores={"clip": 0.25},
)


def make(folder, count=20, **options):
    """A dataset whose rows know their number; every third row has no creator."""
    with DatasetWriter(folder, **options) as out:
        for i in range(count):
            out.write(
                Sample(
                    id=f"row{i}",
                    images=[EncodedImage(bytes([i % 256]) * 40, f"{i}.png")],
                    captions=[f"caption {i}"],
                    creator=None if i % 3 == 0 else f"creator{i % 5}",
                    texts={"title": f"title {i // 4}"} if i else {},
                    scores={"s": i / 2},
                )
            )
    return Dataset.open(folder)


def test_every_field_comes_back(tmp_path):
    with DatasetWriter(tmp_path / "d") as out:
        out.write(FULL)
        out.write(Sample(id="empty"))
    dataset = Dataset.open(tmp_path / "d")
    assert dataset[0] == FULL
    assert dataset[1] == Sample(id="empty")
    assert list(dataset) == [FULL, Sample(id="empty")]


def test_rows_by_index_across_groups_and_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "GROUP_ROWS", 3)
    dataset = make(tmp_path / "d", 20, rows_per_shard=7)
    files = sorted(path.name for path in (tmp_path / "d").glob("*.parquet"))
    assert files == ["data-00000.parquet", "data-00001.parquet", "data-00002.parquet"]
    assert [s.id for s in dataset] == dataset.ids == [f"row{i}" for i in range(20)]
    order = random.Random(0).sample(range(20), 20)
    assert [dataset[i].images[0].data for i in order] == [bytes([i]) * 40 for i in order]
    assert [s.id for s in dataset.take([*order, 3, 3])] == [f"row{i}" for i in [*order, 3, 3]]
    assert dataset[-1].id == "row19"
    for outside in (20, -21):
        with pytest.raises(IndexError, match="20 samples"):
            dataset[outside]


def test_groups_end_at_their_bytes_and_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "GROUP_BYTES", 100)
    monkeypatch.setattr(parquet_store, "CACHE_BYTES", 2000)
    dataset = make(tmp_path / "d", 30)
    assert pq.ParquetFile(tmp_path / "d" / "data-00000.parquet").num_row_groups == 10
    for i in range(30):
        assert dataset[i].id == f"row{i}"
    inner = dataset._store
    assert inner._cache_bytes == sum(table.nbytes for table in inner._cache.values()) <= 2000
    assert 1 <= len(inner._cache) < 10


def test_only_the_fields_asked_for_are_read(tmp_path):
    dataset = make(tmp_path / "d")
    (sample,) = dataset.take([4], fields=("captions",))
    assert sample == Sample(id="row4", captions=["caption 4"])


def test_threads_read_the_same_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "GROUP_ROWS", 4)
    monkeypatch.setattr(parquet_store, "CACHE_BYTES", 1)
    dataset = make(tmp_path / "d", 100)
    wrong = []

    def read(seed):
        for i in random.Random(seed).sample(range(100), 100):
            if dataset[i].captions != [f"caption {i}"]:
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_views(tmp_path):
    dataset = make(tmp_path / "d")
    view = dataset.select([5, 3, 19])
    assert len(view) == 3 and view.ids == ["row5", "row3", "row19"]
    assert [s.id for s in view] == view.ids and view[-1].id == "row19"
    assert view.select(np.array([2, 0])).ids == ["row19", "row5"]
    assert len(view.select([])) == 0 and list(view.select([])) == []
    assert view.column("captions") == [["caption 5"], ["caption 3"], ["caption 19"]]
    with pytest.raises(IndexError):
        view.take([3])


def test_columns(tmp_path):
    dataset = make(tmp_path / "d", 6)
    assert dataset.column("creator") == [None, "creator1", "creator2", None, "creator4", "creator0"]
    assert dataset.column("texts.title") == [None, "title 0", "title 0", "title 0", "title 1", "title 1"]
    assert dataset.column("scores.s") == [0, 0.5, 1, 1.5, 2, 2.5]
    for unknown in ("colour", "images", "texts.colour", "id.x", ""):
        with pytest.raises(InputError, match=r"creator.*texts\.title"):
            dataset.column(unknown)
    assert dataset.column("texts")[0] == []


def test_split_keeps_equal_values_together_and_is_stable(tmp_path):
    dataset = make(tmp_path / "d", 200)
    rest, held = dataset.split(0.3, by="texts.title", seed=1)
    assert len(rest) + len(held) == 200 and not set(rest.ids) & set(held.ids)
    assert set(rest.column("texts.title")) & set(held.column("texts.title")) <= {None}
    assert 0.15 < len(held) / 200 < 0.45
    assert dataset.split(0.3, by="texts.title", seed=1)[1].ids == held.ids
    assert dataset.split(0.3, by="texts.title", seed=2)[1].ids != held.ids
    # the side of a row depends on its own value alone
    part = dataset.select(range(0, 200, 7))
    assert set(part.split(0.3, by="texts.title", seed=1)[1].ids) == set(part.ids) & set(held.ids)


def test_a_table_of_some_rows_reads_their_row_groups_only(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "GROUP_ROWS", 7)
    dataset = make(tmp_path / "d", 100, rows_per_shard=21)
    whole, read = dataset.table(), []
    plain = parquet_store.ParquetStore._read

    def noted(store, shard, groups, columns):
        read.extend((shard, group) for group in groups)
        return plain(store, shard, groups, columns)

    monkeypatch.setattr(parquet_store.ParquetStore, "_read", noted)
    random = np.random.default_rng(0)
    for rows in (*(random.integers(0, 100, n) for n in (1, 5, 60)), np.array([99, 0, 0, 50])):
        assert dataset.table(rows).equals(whole.take(rows))
        assert dataset.select(rows[::-1]).table([0, -1]).equals(whole.take(rows[[-1, 0]]))
    read.clear()
    assert len(dataset.table([])) == 0 and read == []
    assert dataset.table([24, 22, 99], ("id",)).column("id").to_pylist() == ["row24", "row22", "row99"]
    assert read == [(1, 0), (4, 2)]


def test_split_hashes_rows_without_a_value_by_their_id(tmp_path):
    dataset = make(tmp_path / "d", 300)
    empty = [i for i in range(300) if i % 3 == 0]
    held = dataset.split(0.5, by="creator")[1]
    assert 30 < len(set(held.ids) & {f"row{i}" for i in empty}) < 70  # and not all on one side
    assert set(held.ids) & {f"row{i}" for i in empty} == set(dataset.select(empty).split(0.5, by="id")[1].ids)


def test_split_says_what_it_can_split_by(tmp_path):
    dataset = make(tmp_path / "d", 3)
    for unknown in ("author", "captions", "texts.colour", "images"):
        with pytest.raises(InputError, match=r"label.*creator.*texts\.title"):
            dataset.split(by=unknown)
    for fraction in (0, 1, -1, float("nan")):
        with pytest.raises(InputError, match="fraction"):
            dataset.split(fraction)


def test_ids_are_made_unique(tmp_path):
    with DatasetWriter(tmp_path / "d") as out:
        ids = [out.write(Sample(id=id)) for id in ("a", "a", "a#2", "a", "b")]
    assert ids == ["a", "a#2", "a#2#2", "a#3", "b"] == Dataset.open(tmp_path / "d").ids


def test_text_that_is_no_unicode_is_mended(tmp_path):
    with DatasetWriter(tmp_path / "d") as out:
        out.write(Sample(id="caf\udce9.jpg", captions=["half \ud83d"], texts={"\udcff": "\udcff"}))
        out.reject(Rejected("\udcff", "row broken", "\udcff"))
    sample = Dataset.open(tmp_path / "d")[0]
    assert sample == Sample(id="caf?.jpg", captions=["half ?"], texts={"?": "?"})
    assert Dataset.open(tmp_path / "d").quarantine() == [Rejected("?", "row broken", "?")]


def test_a_sample_with_a_wrong_type_is_named(tmp_path):
    with pytest.raises(InputError, match=r"sample 'b': captions: expected list"), DatasetWriter(tmp_path / "d") as out:
        out.write(Sample(id="a", captions=["fine"]))
        out.write(Sample(id="b", captions=[3]))
    with pytest.raises(InputError, match="id: expected a non-empty string"), DatasetWriter(tmp_path / "d") as out:
        out.write(Sample(id=""))
    assert os.listdir(tmp_path) == []


def test_the_card_and_the_quarantine(tmp_path):
    with DatasetWriter(tmp_path / "d", name="mine", source="a list", notes={"rows": 99, "extra": 1}) as out:
        out.write(FULL)
        for i in range(3):
            out.reject(Rejected(f"bad{i}", "image empty" if i else "row broken", "why"))
    card = json.loads((tmp_path / "d" / "dataset.json").read_text())
    assert card["rows"] == 1 and card["name"] == "mine" and card["source"] == "a list" and card["extra"] == 1
    assert card["rejected"] == {"image empty": 2, "row broken": 1}
    dataset = Dataset.open(tmp_path / "d")
    assert dataset.quarantine()[0] == Rejected("bad0", "row broken", "why") and len(dataset.quarantine()) == 3
    assert dataset.name == "mine" and dataset.card == card


def test_an_empty_dataset_is_one(tmp_path):
    with DatasetWriter(tmp_path / "d"):
        pass
    dataset = Dataset.open(tmp_path / "d")
    assert len(dataset) == 0 and list(dataset) == [] and dataset.ids == [] and dataset.take([]) == []
    assert [len(part) for part in dataset.split()] == [0, 0]
    assert pq.read_schema(tmp_path / "d" / "data-00000.parquet").equals(SCHEMA)


def test_a_failed_write_leaves_the_old_dataset(tmp_path):
    make(tmp_path / "d", 5)
    with pytest.raises(RuntimeError), DatasetWriter(tmp_path / "d") as out:
        out.write(FULL)
        raise RuntimeError("stop")
    assert len(Dataset.open(tmp_path / "d")) == 5 and os.listdir(tmp_path) == ["d"]
    assert len(make(tmp_path / "d", 2)) == 2 and os.listdir(tmp_path) == ["d"]


def test_what_is_not_a_dataset_is_not_overwritten(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"precious")
    (tmp_path / "file").write_bytes(b"precious")
    for name in ("photos", "file"):
        with pytest.raises(InputError, match="not a Diptych dataset"):
            DatasetWriter(tmp_path / name).__enter__()
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"precious"
    (tmp_path / "empty").mkdir()
    assert len(make(tmp_path / "empty", 2)) == 2


def _write_and_die(folder):
    with DatasetWriter(folder) as out:
        for i in range(1000):
            out.write(Sample(id=str(i), images=[EncodedImage(b"x" * 10_000)]))
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_writer_leaves_nothing_that_opens(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(tmp_path / "d",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".d.") and not is_store(left) and not is_store(tmp_path / "d")
    with pytest.raises(InputError):
        Dataset.open(left)
    os.utime(left, (0, 0))
    aside = left.with_suffix(".old")
    aside.mkdir()
    os.utime(aside, (0, 0))
    make(tmp_path / "d", 2)
    assert sorted(os.listdir(tmp_path)) == [aside.name, "d"]  # it could have been all that is left of the dataset
    os.utime(aside, (0, 0))
    assert len(make(tmp_path / "d", 3)) == 3 and os.listdir(tmp_path) == ["d"]  # the next writer sweeps it


def test_damaged_datasets_are_refused_with_a_sentence(tmp_path):
    dataset = make(tmp_path / "d")
    card = tmp_path / "d" / "dataset.json"
    text = card.read_text()
    for bad in (
        "",
        "{",
        "[]",
        "{}",
        text.replace("diptych-dataset", "other"),
        text.replace('"rows": 20', '"rows": "x"'),
    ):
        card.write_text(bad)
        with pytest.raises(InputError, match="dataset.json"):
            Dataset.open(tmp_path / "d")
    card.write_text(text.replace('"version": 2', '"version": 99'))
    with pytest.raises(InputError, match="newer"):
        Dataset.open(tmp_path / "d")
    card.write_text(text)
    shard = tmp_path / "d" / "data-00000.parquet"
    data = shard.read_bytes()
    shard.write_bytes(data[:1000])
    with pytest.raises(InputError, match="data-00000.parquet"):
        Dataset.open(tmp_path / "d")[0]
    shard.unlink()
    with pytest.raises(InputError, match="missing"):
        Dataset.open(tmp_path / "d")
    assert len(dataset) == 20


def test_fingerprints_follow_the_content(tmp_path):
    a, b = make(tmp_path / "a"), make(tmp_path / "b", name="another name")
    assert a.fingerprint() == b.fingerprint()
    assert len({a.fingerprint(), make(tmp_path / "c", 19).fingerprint(), a.select([1, 0]).fingerprint()}) == 3
    with DatasetWriter(tmp_path / "x") as out:
        out.write(Sample(id="1", images=[EncodedImage(b"a")]))
    with DatasetWriter(tmp_path / "y") as out:
        out.write(Sample(id="1", images=[EncodedImage(b"b")]))
    assert Dataset.open(tmp_path / "x").fingerprint() != Dataset.open(tmp_path / "y").fingerprint()
    pq.write_table(pq.read_table(tmp_path / "a" / "data-00000.parquet"), tmp_path / "foreign.parquet")
    assert Dataset.open(tmp_path / "foreign.parquet").fingerprint() != a.fingerprint()


def test_pictures_by_path_are_found_beside_the_dataset(tmp_path):
    with DatasetWriter(tmp_path / "d") as out:
        out.write(Sample(id="rel", images=[EncodedImage(None, "sub/a.png")]))
        out.write(Sample(id="url", images=[EncodedImage(None, "https://example.org/a.png")]))
        out.write(Sample(id="none"))
        out.write(FULL)
    rel, url, none, full = Dataset.open(tmp_path / "d")
    assert image_source(rel) == tmp_path / "d" / "sub" / "a.png"
    assert image_source(full) == b"one"
    for sample in (url, none):
        with pytest.raises(BadImage, match=sample.id):
            image_source(sample)


def test_other_engines_read_it_as_it_is(tmp_path):
    make(tmp_path / "d", 10)
    files = str(tmp_path / "d" / "*.parquet")
    table = pq.read_table(tmp_path / "d" / "data-00000.parquet")
    assert table.schema.field("images").type.value_type.field("bytes").type == "binary"
    assert table.column("images")[3].as_py() == [{"bytes": b"\x03" * 40, "path": "3.png"}]
    query = (
        f"select id, captions[1], images[1].path, texts[1].text from '{files}' where creator = 'creator2' order by id"
    )
    assert duckdb.sql(query).fetchall() == [
        ("row2", "caption 2", "2.png", "title 0"),
        ("row7", "caption 7", "7.png", "title 1"),
    ]


def test_hugging_face_datasets_reads_it_as_it_is(tmp_path):
    with DatasetWriter(tmp_path / "d", rows_per_shard=3) as out:
        out.reject(Rejected("x", "row broken"))
        for sample in make(tmp_path / "whole", 10):
            out.write(sample)
    found = datasets.load_dataset(str(tmp_path / "d"), split="train", cache_dir=str(tmp_path / "cache"))
    assert found.num_rows == 10
    assert found[4]["captions"] == ["caption 4"] and found[4]["images"][0]["bytes"] == b"\x04" * 40
