"""Importing: every kind of bad file is read right or counted, nothing stops and nothing vanishes."""

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import raw_pictures as raw

from diptych.data import BUILTIN, Dataset, import_dataset, open_dataset
from diptych.data.store import image_source
from diptych.images import decode
from diptych.types import InputError

pytestmark = pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")

ROOT = Path(__file__).parents[2]

# name -> (bytes or None for a file that is not there, reason or None where it is read right)
FILES = {
    "good.jpg": (raw.jpeg(1), None),
    "wrong_extension.jpg": (raw.png(2), None),
    "animated.gif": (raw.animated(), None),
    "cmyk.jpg": (raw.cmyk(), None),
    "sixteen_bit.png": (raw.sixteen_bit(), None),
    "transparent_palette.png": (raw.transparent_palette(), None),
    "truncated.jpg": (raw.jpeg(3)[:-60], "image truncated"),
    "truncated.png": (raw.png(4)[:-60], "image truncated"),
    "corrupt.png": (raw.png(5)[:-60] + raw.png(5)[-12:], "image corrupt"),
    "zero_byte.jpg": (b"", "image empty"),
    "bomb.png": (raw.bomb(), "image too large"),
    "no_picture.jpg": (b"<html>404 not found</html>", "image not recognised"),
    "missing.jpg": (None, "image missing"),
}
CAPTIONS = {
    "latin1.jpg": ("caf\xe9".encode("latin1"), "caption not UTF-8"),
    "blank.jpg": (b"  ", "caption empty"),
}
EXPECTED = Counter(reason for _, reason in (*FILES.values(), *CAPTIONS.values()) if reason)
GOOD = [name for name, (_, reason) in FILES.items() if reason is None]


@pytest.fixture
def folder(tmp_path):
    """Every kind of bad file, beside pictures that only look bad."""
    root = tmp_path / "wild"
    root.mkdir()
    for name, (data, _) in FILES.items():
        if data is not None:
            (root / name).write_bytes(data)
    for i, name in enumerate(CAPTIONS):
        (root / name).write_bytes(raw.jpeg(10 + i))
    return root


def captions() -> dict[str, bytes]:
    return {name: f"caption of {name}".encode() for name in FILES} | {n: data for n, (data, _) in CAPTIONS.items()}


def check(source, expected=EXPECTED, good=tuple(GOOD)):
    out = source.parent / "out"
    calls = []
    report = import_dataset(source, out, progress=lambda done, total: calls.append((done, total)))
    dataset = Dataset.open(out)
    assert Counter(report.rejected) == expected
    assert report.rows == len(dataset) == len(good)
    assert report.seen == report.rows + sum(expected.values()) == calls[-1][0] == len(calls)
    assert [done for done, _ in calls] == list(range(1, len(calls) + 1)) and calls[0][1] == len(calls)
    quarantine = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert Counter(row["reason"] for row in quarantine) == expected == Counter(dataset.card["rejected"])
    assert all(row["id"] for row in quarantine) and all(row["detail"] for row in quarantine)
    by_name = {Path(sample.images[0].path or sample.id).name: sample for sample in dataset}
    if good:
        assert set(by_name) == set(good)
        for name in GOOD:
            assert image_source(by_name[name]) == FILES[name][0]  # the original bytes
    return by_name


def test_same_name_text_files(folder):
    for name, data in captions().items():
        # one text file cannot belong to two pictures of one stem in this fixture
        (folder / name).with_suffix(".txt").write_bytes(data)
    (folder / "truncated.png").rename(folder / "truncated2.png")
    (folder / "truncated2.txt").write_text("another")
    found = check(folder)
    assert found["cmyk.jpg"].captions == ["caption of cmyk.jpg"]


@pytest.mark.parametrize("name", ["captions.csv", "captions.tsv"])
def test_delimited_table(folder, name):
    delimiter = b"\t" if name.endswith("tsv") else b","
    lines = [b"image" + delimiter + b"caption", *(n.encode() + delimiter + data for n, data in captions().items())]
    (folder / name).write_bytes(b"\n".join(lines))
    assert check(folder)["good.jpg"].captions == ["caption of good.jpg"]
    assert check(folder / name)["good.jpg"].captions == ["caption of good.jpg"]


def test_metadata_jsonl(folder):
    lines = [b'{"file_name": "%s", "text": "%s"}' % (n.encode(), data) for n, data in captions().items()]
    (folder / "metadata.jsonl").write_bytes(b"\n".join([*lines, b'{"file_name": "good.jpg", "text": "second"}']))
    assert check(folder)["good.jpg"].captions == ["caption of good.jpg", "second"]
    assert check(folder / "metadata.jsonl")["good.jpg"].captions == ["caption of good.jpg", "second"]


@pytest.mark.parametrize("kind", ["struct", "path"])
def test_parquet(folder, kind):
    data = captions()
    text = pa.array(list(data.values()), pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(text), text.buffers())
    held = [(folder / name).read_bytes() if (folder / name).exists() else None for name in data]
    structs = pa.array([{"bytes": b, "path": p if b is None else p} for b, p in zip(held, data)])
    image = structs if kind == "struct" else pa.array(list(data))
    path = folder / "t.parquet"
    pq.write_table(pa.table({"image": image, "caption": text}), path, row_group_size=4)
    assert check(path)["good.jpg"].captions == ["caption of good.jpg"]


def test_bare_pictures(folder):
    expected = EXPECTED - Counter(["image missing", "caption not UTF-8", "caption empty"])
    check(folder, expected, good=(*GOOD, *CAPTIONS))


def test_what_only_looks_bad_is_read_right(folder):
    import_dataset(folder, folder.parent / "out")
    found = {sample.id: decode(image_source(sample)) for sample in Dataset.open(folder.parent / "out")}
    assert found["animated.gif"].getpixel((0, 0)) == (255, 0, 0)
    assert found["transparent_palette.png"].getpixel((7, 0)) == (255, 255, 255)
    assert found["sixteen_bit.png"].getpixel((128, 0)) == (128, 128, 128)
    assert found["cmyk.jpg"].getpixel((0, 0))[0] > 240
    assert found["wrong_extension.jpg"].tobytes() == raw.noise(seed=2).tobytes()


def test_files_and_folders_that_may_not_be_read(tmp_path, monkeypatch):
    root = tmp_path / "set"
    (root / "closed").mkdir(parents=True)
    (root / "a.png").write_bytes(raw.png())
    (root / "closed.png").write_bytes(raw.png())
    (root / "self.png").symlink_to("self.png")
    (root / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(root / "pipe.png")
    scandir, read = os.scandir, Path.read_bytes

    def closed(function):
        def call(path, *args):
            if Path(path).name.startswith("closed"):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *args)

        return call

    # by hand and not by chmod, which does not stop the superuser
    monkeypatch.setattr(os, "scandir", closed(scandir))
    monkeypatch.setattr(Path, "read_bytes", closed(read))
    report = import_dataset(root, tmp_path / "out")
    assert report.rows == 1
    assert report.rejected == {"image unreadable": 3, "image missing": 1, "folder unreadable": 1}


def test_nothing_but_bad_rows_is_still_an_import(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(b"x")
    dataset = open_dataset(tmp_path / "set")
    assert len(dataset) == 0 and [row.reason for row in dataset.quarantine()] == ["image not recognised"]


def test_the_cache_is_used_until_the_source_changes(tmp_path, caplog):
    root = tmp_path / "set"
    root.mkdir()
    (root / "a.png").write_bytes(raw.png())
    (root / "a.txt").write_text("one")
    with caplog.at_level(logging.INFO, "diptych"):
        first = open_dataset(root)
        assert open_dataset(str(root)).fingerprint() == first.fingerprint()
        assert caplog.text.count("recognised") == 1 and "imported earlier" in caplog.text
        (root / "b.png").write_bytes(raw.png(1))
        assert open_dataset(root).ids == ["a.png", "b.png"]
        (root / "a.txt").write_text("changed")
        assert open_dataset(root)[0].captions == ["changed"]
        (root / "b.png").unlink()
        assert open_dataset(root).ids == ["a.png"]
        assert caplog.text.count("recognised") == 4
    assert first.ids == ["a.png"]  # an open dataset outlives its replacement
    assert len(list((tmp_path / "cache" / "datasets").iterdir())) == 1
    assert first.folder.is_relative_to(tmp_path / "cache")


def test_a_table_is_imported_again_when_its_pictures_change(tmp_path):
    (tmp_path / "a.png").write_bytes(raw.png())
    (tmp_path / "t.csv").write_text("image,caption\na.png,one\nb.png,two\n")
    assert open_dataset(tmp_path / "t.csv").ids == ["a.png"]
    (tmp_path / "b.png").write_bytes(raw.png())
    (tmp_path / "unrelated.png").write_bytes(raw.png())
    assert open_dataset(tmp_path / "t.csv").ids == ["a.png", "b.png"]


def test_a_damaged_cache_is_made_anew(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(raw.png())
    folder = open_dataset(tmp_path / "set").folder
    (folder / "data-00000.parquet").unlink()
    assert open_dataset(tmp_path / "set")[0].id == "a.png"


def test_addresses_that_lead_nowhere(tmp_path):
    with pytest.raises(InputError, match="no such dataset; expected a built-in name"):
        open_dataset("clipartt")
    with pytest.raises(InputError, match="no such file or folder"):
        import_dataset(tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found none"):
        open_dataset(tmp_path / "empty")
    (tmp_path / "a.png").write_bytes(raw.png())
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(InputError, match="not a Diptych dataset"):
        import_dataset(tmp_path, tmp_path / "taken")


def test_an_error_of_the_caller_stops_the_import_and_leaves_nothing(tmp_path):
    (tmp_path / "set").mkdir()
    for i in range(100):
        (tmp_path / "set" / f"{i}.png").write_bytes(raw.png(i))

    def interrupt(done, total):
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_dataset(tmp_path / "set", tmp_path / "out", progress=interrupt)
    assert sorted(os.listdir(tmp_path)) == ["set"]


def test_the_number_of_threads_changes_nothing(folder):
    prints = []
    for threads in (1, 4):
        import_dataset(folder, folder.parent / "out", threads=threads)
        prints.append(Dataset.open(folder.parent / "out").fingerprint())
    assert prints[0] == prints[1]


# ---------------------------------------------------------------- the dataset in the package


def test_clipart_is_as_its_authors_left_it():
    dataset = open_dataset("clipart")
    assert len(dataset) == 8051 and len(set(dataset.ids)) == 8051
    assert BUILTIN["clipart"].stat().st_size < 10_000_000
    titles = Counter(dataset.column("texts.title"))
    assert titles.most_common(2) == [
        ("gramastar", 1375),
        ("Part of the Flat Icon Collection (Wed Aug 25 23:29:46 2004)", 599),
    ]
    assert sum(not captions for captions in dataset.column("captions")) == 1
    sample = dataset[3]
    assert sample.captions == [sample.texts["title"]] == ["Armadillo"]
    assert sample.id == sample.texts["path"] == sample.images[0].path
    assert sample.license == "public-domain" and sample.creator and sample.tags
    assert {decode(image_source(s)).mode for s in dataset.select(range(0, 8051, 400))} == {"RGB"}
    rest, held = dataset.split(0.1, by="creator")
    assert not set(rest.column("creator")) & set(held.column("creator")) and len(rest) + len(held) == 8051


def test_clipart_can_be_built_from_its_raw_form(tmp_path):
    rows = [
        {
            "image": {"bytes": raw.png(i), "path": f"things/{i}.webp"},
            "title": " A title " if i else "",
            "description": "words",
            "tags": ["x"],
            "creator": "Ann",
            "license": "public-domain",
        }
        for i in range(3)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "raw.parquet")
    command = [
        sys.executable,
        ROOT / "scripts" / "build_clipart.py",
        tmp_path / "raw.parquet",
        tmp_path / "out.parquet",
    ]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, capture_output=True)
    dataset = Dataset.open(tmp_path / "out.parquet")
    assert [sample.captions for sample in dataset] == [[], ["A title"], ["A title"]]
    assert dataset[1].texts == {"title": " A title ", "description": "words", "path": "things/1.webp"}
    assert dataset[2].images[0].data == raw.png(2)
