"""Tar shards: read in place as WebDataset means them, whatever state they are in."""

import io
import json
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from tar_files import pairs, picture, rejected, tar

from diptych.data import import_dataset, open_dataset, tar_index
from diptych.data.formats import recognise, wds
from diptych.data.shards import shards_of, written_out
from diptych.data.store import Dataset
from diptych.types import InputError, Sample


def test_pairs_are_read_in_place_at_random(tmp_path):
    for shard in range(3):
        tar(tmp_path / f"s-{shard:03d}.tar", pairs(4, 4 * shard))
    dataset = open_dataset(f"wds:{tmp_path}/s-{{000..002}}.tar")
    assert isinstance(dataset, Dataset) and len(dataset) == 12
    assert dataset.ids == [f"{i:04d}" for i in range(12)]
    picked = dataset.take([11, 0, 5])
    assert [sample.captions for sample in picked] == [["caption 11"], ["caption 0"], ["caption 5"]]
    assert [sample.images[0].data for sample in picked] == [picture(11), picture(0), picture(5)]
    assert picked[0].images[0].path == "0011.jpg"
    assert dataset.select([7]).column("captions") == [["caption 7"]]
    assert [sample.id for sample in dataset] == dataset.ids
    assert not (tmp_path / "dataset.json").exists() and dataset.quarantine() == []


def test_only_what_is_asked_for_is_read(tmp_path, monkeypatch):
    tar(tmp_path / "a.tar", {"x.jpg": picture(), "x.txt": b"words", "x.json": b'{"label": "cat"}'})
    dataset = open_dataset(f"wds:{tmp_path}/a.tar")
    (sample,) = dataset.take([0], {"captions"})
    assert sample == Sample("x", captions=["words"])
    assert dataset.take([0], {"label"}) == [Sample("x", label="cat")]
    assert dataset.table(fields={"captions"}).column_names == ["id", "captions"]


def test_fields_of_a_laion_json(tmp_path):
    facts = {"caption": "a dog", "url": "http://x/1.jpg", "key": "0001", "status": "success", "width": 8, "NSFW": None}
    tar(tmp_path / "a.tar", {"0001.jpg": picture(), "0001.txt": b"a dog", "0001.json": json.dumps(facts).encode()})
    tar(tmp_path / "b.tar", {"0002.jpg": picture(), "0002.json": json.dumps(facts | {"key": "other"}).encode()})
    first, second = open_dataset(f"wds:{tmp_path}/{{a,b}}.tar")
    assert first.id == "0001" and first.captions == ["a dog"] and first.url == "http://x/1.jpg"
    assert first.texts == {"path": "0001.jpg", "caption": "a dog", "status": "success", "width": "8"}
    assert second.id == "0002" and second.captions == ["a dog"] and second.texts["id"] == "other"


def test_labels_several_pictures_and_several_captions(tmp_path):
    members = {
        "d/7.left.PNG": picture(1, "PNG"),
        "d/7.right.webp": picture(2, "WEBP"),
        "d/7.cls": b" 12\n",
        "d/7.0.txt": b"one",
        "d/7.1.txt": b"two\nlines",
        "d/7.npy": b"ignored",
    }
    tar(tmp_path / "a.tar", members)
    (sample,) = open_dataset(f"wds:{tmp_path}/a.tar")
    assert sample.id == "d/7" and sample.label == "12" and sample.captions == ["one", "two\nlines"]
    assert [image.path for image in sample.images] == ["d/7.left.png", "d/7.right.webp"]
    assert sample.images[1].data == picture(2, "WEBP")


def test_keys_follow_webdataset(tmp_path):
    """The same names and groups as the reference gives; what it would split or refuse is brought together."""
    members = [("./a.b/c.jpg", picture(1)), ("./a.b/c.d.txt", b"one"), ("__meta__", b"x"), ("noext", b"x")]
    members += [(".hidden.jpg", picture()), ("z.jpg", picture(2)), ("z.txt", b"two"), ("q.w/e.r.t.jpg", picture(3))]
    tar(tmp_path / "a.tar", members)
    dataset = open_dataset(f"wds:{tmp_path}/a.tar")
    theirs = [
        s["__key__"].removeprefix("./") for s in webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False)
    ]
    assert dataset.ids == theirs == ["a.b/c", "z", "q.w/e"]
    assert [s.captions for s in dataset] == [["one"], ["two"], []]
    apart = [("1.jpg", picture(1)), ("2.jpg", picture(2)), ("1.txt", b"one"), ("2.txt", b"two")]
    tar(tmp_path / "b.tar", apart)
    assert [(s.id, s.captions) for s in open_dataset(f"wds:{tmp_path}/b.tar")] == [("1", ["one"]), ("2", ["two"])]
    tar(tmp_path / "c.tar", apart + apart[::-1])
    assert open_dataset(f"wds:{tmp_path}/c.tar").ids == ["1", "2", "2#2", "1#2"]


def test_keys_that_repeat_across_shards_get_the_shards_name(tmp_path):
    tar(tmp_path / "train" / "0.tar", pairs(2))
    tar(tmp_path / "val" / "0.tar", pairs(2))
    dataset = open_dataset(f"wds:{tmp_path}/{{train,val}}/0.tar")
    assert dataset.ids == ["train/0/0000", "train/0/0001", "val/0/0000", "val/0/0001"]
    assert [sample.id for sample in dataset] == dataset.ids


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_huge_and_foreign_names(tmp_path, format):
    names = ["k" * 3000, "d" * 150 + "/" + "k" * 200, "größe-図", "x" * 95]
    members = [member for n in names for member in ((f"{n}.jpg", picture()), (f"{n}.txt", n.encode()))]
    tar(tmp_path / "a.tar", members, format)
    dataset = open_dataset(f"wds:{tmp_path}/a.tar")
    assert dataset.ids == names and [s.captions for s in dataset] == [[n] for n in names]


def test_ustar_prefixes_and_large_sizes(tmp_path):
    name = "d" * 120 + "/x"
    tar(tmp_path / "a.tar", {f"{name}.jpg": picture(), f"{name}.txt": b"long"}, tarfile.USTAR_FORMAT)
    assert open_dataset(f"wds:{tmp_path}/a.tar").ids == [name]
    with tarfile.open(tmp_path / "b.tar", "w", format=tarfile.PAX_FORMAT) as out:  # the size stands in the PAX header
        info = tarfile.TarInfo("x.txt")
        info.size, info.pax_headers = 5, {"size": "5"}
        out.addfile(info, io.BytesIO(b"words"))
    assert open_dataset(f"wds:{tmp_path}/b.tar")[0].captions == ["words"]
    assert tar_index._number(b"\x80" + (1 << 40).to_bytes(11, "big")) == 1 << 40  # base 256: from 8 GiB up
    assert tar_index._number(b"0000017\0 \0 ") == 15 and tar_index._number(b"12x") is None


def test_links_and_sparse_files_are_said(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as out:
        for name, kind in (("l.jpg", tarfile.SYMTYPE), ("s.jpg", tarfile.GNUTYPE_SPARSE), ("dir.jpg", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "x.jpg"
            out.addfile(info)
        info = tarfile.TarInfo("p.jpg")
        info.size, info.pax_headers = 3, {"GNU.sparse.major": "1", "GNU.sparse.name": "p.jpg"}
        out.addfile(info, io.BytesIO(b"map"))
        info = tarfile.TarInfo("x.txt")
        info.size = 2
        out.addfile(info, io.BytesIO(b"ok"))
    dataset = open_dataset(f"wds:{tmp_path}/a.tar")
    assert dataset.ids == ["x"] and dataset[0].captions == ["ok"]
    assert rejected(dataset) == {f"a.tar/{name}.jpg": "member not supported" for name in "lsp"}


def test_a_truncated_shard_keeps_what_is_whole(tmp_path, caplog):
    whole = tar(tmp_path / "whole.tar", pairs(4)).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as opened:
        ends = {m.name: m.offset_data + m.size for m in opened}
    tar(tmp_path / "s" / "1.tar", pairs(2, 10))
    for cut, kept, last in (
        (ends["0002.jpg"] - 1, ["0000", "0001"], "caption 1"),  # within a picture
        (ends["0002.txt"] - 3, ["0000", "0001", "0002"], None),  # within a caption
        (ends["0002.jpg"] - ends["0002.jpg"] % 512 + 512 + 100, ["0000", "0001", "0002"], None),  # within a header
    ):
        (tmp_path / "s" / "0.tar").write_bytes(whole[:cut])
        caplog.clear()
        dataset = open_dataset(f"wds:{tmp_path}/s")
        assert dataset.ids == [*kept, "0010", "0011"]
        assert (dataset[len(kept) - 1].captions or [None])[0] == last and dataset[1].captions == ["caption 1"]
        assert rejected(dataset) == {"0.tar": "file truncated"} and dataset.card["rejected"] == {"file truncated": 1}
        assert "file truncated" in caplog.text


def test_a_damaged_header_and_what_follows_the_end(tmp_path):
    data = bytearray(tar(tmp_path / "a.tar", pairs(3)).read_bytes())
    with tarfile.open(tmp_path / "a.tar") as opened:
        at = opened.getmember("0001.jpg").offset
    data[at + 3] ^= 0x55
    (tmp_path / "a.tar").write_bytes(data)
    dataset = open_dataset(f"wds:{tmp_path}/a.tar")
    assert dataset.ids == ["0000"] and rejected(dataset) == {"a.tar": "file broken"}
    two = tar(tmp_path / "b.tar", pairs(1)).read_bytes()
    (tmp_path / "b.tar").write_bytes(two + two)
    assert rejected(open_dataset(f"wds:{tmp_path}/b.tar")) == {"b.tar": "data after the end"}


def test_random_damage_never_gives_a_traceback(tmp_path):
    whole = tar(tmp_path / "a.tar", pairs(3), tarfile.PAX_FORMAT).read_bytes()[:6000]
    rng = np.random.default_rng(0)
    for n in range(150):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 3):
            data[at] = rng.integers(0, 256)
        path = tmp_path / f"{n}.tar"
        path.write_bytes(data[: rng.integers(600, len(data))])
        try:
            dataset = open_dataset(f"wds:{path}")
        except InputError:
            continue
        assert len(list(dataset)) == len(dataset) <= 6 and dataset.quarantine()


def test_files_that_are_no_tar(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"not a tar" * 100)
    (tmp_path / "b.tar").write_bytes(b"")
    for name in "ab":
        with pytest.raises(InputError, match=f"{name}.tar: expected tar files"):
            open_dataset(f"wds:{tmp_path}/{name}.tar")
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as out:
        out.addfile(tarfile.TarInfo("x.jpg"))
    with pytest.raises(InputError, match="c.tar.gz: is compressed with gzip; decompress it"):
        open_dataset(f"wds:{tmp_path}/c.tar.gz")
    os.remove(tmp_path / "a.tar"), os.remove(tmp_path / "b.tar")
    with pytest.raises(InputError, match=r"decompress those like c\.tar\.gz"):
        open_dataset(f"wds:{tmp_path}")
    tar(tmp_path / "d.tar", {"x.jpg": picture()})
    with pytest.raises(InputError, match="no option 'split'"):
        open_dataset(f"wds:{tmp_path}/d.tar?split=x")


def test_bad_members_are_counted_and_the_rest_still_comes(tmp_path, caplog):
    members = {"a.jpg": picture(), "a.json": b'{"caption": ', "b.jpg": picture(), "b.txt": b"\xff\xfe\xfa"}
    members |= {"c.jpg": picture(), "c.txt": b" \n", "d.jpg": picture(), "d.json": b"[1]", "e.jpg": picture()}
    members |= {"e.json": b'{"caption": ["ok"]}', "f.jpg": picture(), "f.json": b'{"caption": 3}'}
    tar(tmp_path / "a.tar", members)
    dataset = open_dataset(f"wds:{tmp_path}/a.tar")
    for _ in range(2):
        assert [bool(sample.images) for sample in dataset] == [True] * 6
        reasons = {"a": "row broken", "b": "text not UTF-8", "c": "caption empty", "d": "row broken", "f": "wrong type"}
        assert rejected(dataset) == reasons
    assert dataset[4].captions == ["ok"] and caplog.text.count("caption empty") == 1


def test_what_changes_while_it_is_open_is_said(tmp_path):
    path = tar(tmp_path / "a.tar", pairs(3))
    dataset = open_dataset(f"wds:{path}")
    before = dataset.fingerprint()
    assert open_dataset(f"wds:{path}").fingerprint() == before
    tar(path, pairs(2, 5))
    with pytest.raises(InputError, match="has changed since it was opened"):
        dataset.take([0])
    again = open_dataset(f"wds:{path}")
    assert again.ids == ["0005", "0006"] and again.fingerprint() != before
    os.remove(path)
    with pytest.raises(InputError, match="no such file"):
        open_dataset(f"wds:{path}")


def test_opening_reads_headers_only_and_once(tmp_path, monkeypatch):
    """A shard of 1 GiB, most of it a hole: kilobytes are read, and nothing the second time."""
    path = tmp_path / "big.tar"
    with path.open("wb") as file:
        for i in range(4):
            info = tarfile.TarInfo(f"{i}.jpg")
            info.size = 256 << 20
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            file.seek(256 << 20, os.SEEK_CUR)
        file.write(b"\0" * 1024)
    read = []
    pread = os.pread
    monkeypatch.setattr(tar_index.os, "pread", lambda fd, size, at: read.append(len(d := pread(fd, size, at))) or d)
    assert len(open_dataset(f"wds:{path}")) == 4
    assert 4 * 512 <= sum(read) < 32 << 10
    read.clear()
    assert len(open_dataset(f"wds:{path}")) == 4 and read == []


def test_a_cache_that_is_damaged_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    path = tar(tmp_path / "a.tar", pairs(3))
    open_dataset(f"wds:{path}")
    (kept,) = (tmp_path / "cache" / "tar-index").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    assert len(open_dataset(f"wds:{path}")) == 3 and kept.stat().st_size > 100


def test_threads_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_index, "OPEN_FILES", 2)  # so that files are closed while others read
    for shard in range(6):
        tar(tmp_path / f"{shard}.tar", pairs(20, 20 * shard))
    dataset = open_dataset(f"wds:{tmp_path}")
    orders = [np.random.default_rng(seed).permutation(120) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for order, samples in zip(orders, pool.map(dataset.take, orders)):
            assert [s.captions for s in samples] == [[f"caption {i}"] for i in order]
            assert [s.images[0].data for s in samples] == [picture(i) for i in order]


# ---------------------------------------------------------------- patterns


def test_braces_are_written_out():
    assert written_out("a-{008..011}.tar") == ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"]
    assert written_out("{a,b}/{2..0}") == ["a/2", "a/1", "a/0", "b/2", "b/1", "b/0"]
    assert written_out("{1..9..4}{x}{,y}") == ["1{x}", "1{x}y", "5{x}", "5{x}y", "9{x}", "9{x}y"]
    assert written_out("plain") == ["plain"] and len(written_out("{0000..1279}")) == 1280
    with pytest.raises(InputError, match="more than 1,000,000"):
        written_out("{0..99999999}")


def test_patterns_find_files(tmp_path, monkeypatch):
    for name in ("s-0.tar", "s-1.tar", "s-2.tar", "what?.tar", "{odd}.tar"):
        tar(tmp_path / name, pairs(1))
    names = lambda pattern: [path.name for path in shards_of(pattern)]  # noqa: E731
    assert names(f"{tmp_path}/s-*.tar") == names(f"{tmp_path}/s-[0-2].tar") == ["s-0.tar", "s-1.tar", "s-2.tar"]
    assert names(f"{tmp_path}/s-{{1,0,1}}.tar") == ["s-1.tar", "s-0.tar"]
    assert names(f"{tmp_path}/what%3F.tar") == ["what?.tar"] and names(f"{tmp_path}/{{odd}}.tar") == ["{odd}.tar"]
    assert len(names(str(tmp_path))) == 5
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names("~/s-{0..1}.tar") == ["s-0.tar", "s-1.tar"]
    with pytest.raises(InputError, match=r"s-3\.tar: no such file \(and 1 more"):
        shards_of(f"{tmp_path}/s-{{0..4}}.tar")
    with pytest.raises(InputError, match="no such file"):
        shards_of(f"{tmp_path}/nothing-*.tar")


# ---------------------------------------------------------------- importing


def test_import_of_a_pattern_and_of_a_folder(tmp_path):
    tar(tmp_path / "in" / "0.tar", pairs(3) | {"bad.jpg": b"\xff\xd8\xff nothing", "bad.txt": b"x"})
    tar(tmp_path / "in" / "1.tar", {"mute.jpg": picture(), "mute.txt": b""})
    assert recognise(tmp_path / "in") == recognise(tmp_path / "in" / "0.tar") == "wds"
    for n, source in enumerate((f"wds:{tmp_path}/in/{{0,1}}.tar", tmp_path / "in")):
        report = import_dataset(source, tmp_path / f"out{n}")
        assert report.format == "wds" and report.rows == 3
        assert report.rejected == {"image truncated": 1, "caption empty": 1}
        assert [s.captions[0] for s in Dataset.open(report.folder)] == ["caption 0", "caption 1", "caption 2"]
    assert open_dataset(tmp_path / "in").address.startswith("wds:")  # read in place, not copied


def test_the_tables_that_img2dataset_puts_beside_tars_do_not_hide_them(tmp_path):
    facts = {"caption": "a dog", "url": "http://x/1.jpg", "key": "000000000", "status": "success", "width": 8}
    members = {"0.jpg": picture(), "0.txt": b"a dog", "0.json": json.dumps(facts).encode()}
    tar(tmp_path / "in" / "00000.tar", members)
    pq.write_table(pa.Table.from_pylist([facts]), tmp_path / "in" / "00000.parquet")
    (tmp_path / "in" / "00000_stats.json").write_text('{"count": 1, "successes": 1}')
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    assert report.format == "wds" and Dataset.open(report.folder)[0].images[0].data == picture()


def test_tars_of_something_else_are_not_recognised(tmp_path):
    tar(tmp_path / "a.tar", {"x.jpg": picture(), "y.jpg": picture()})
    assert not wds.recognise(tmp_path / "a.tar") and not wds.recognise(tmp_path)
    (tmp_path / "b.tar").write_bytes(b"x")
    assert not wds.recognise(tmp_path / "b.tar") and not wds.recognise(tmp_path / "none.tar")
