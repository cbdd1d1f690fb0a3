"""Readers: what each format is recognised as, and what each of its rows becomes."""

import json
import logging
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import raw_pictures as raw

from diptych.data import Dataset, DatasetWriter, import_dataset, open_dataset
from diptych.data.formats import FORMATS, recognise
from diptych.data.formats.rows import choose_columns, decode_text, merge_by_picture, split_of
from diptych.types import EncodedImage, InputError, Sample


@pytest.fixture
def folder(tmp_path):
    """Three pictures: a.png, b.jpg, sub/c.png."""
    root = tmp_path / "pairs"
    (root / "sub").mkdir(parents=True)
    (root / "a.png").write_bytes(raw.png(1))
    (root / "b.jpg").write_bytes(raw.jpeg(2))
    (root / "sub" / "c.png").write_bytes(raw.png(3))
    return root


def samples(source, **options) -> dict[str, Sample]:
    """The samples of a source by id, after an import with nothing rejected."""
    out = source.parent / "imported"
    report = import_dataset(source, out, **options)
    dataset = Dataset.open(out)
    assert report.rejected == {}, dataset.quarantine()
    return {sample.id: sample for sample in dataset}


def rejected(source) -> dict[str, str]:
    """id -> reason of what an import of `source` rejects."""
    import_dataset(source, source.parent / "imported")
    return {row.id: row.reason for row in Dataset.open(source.parent / "imported").quarantine()}


# ---------------------------------------------------------------- folders


def test_bare_pictures_are_labelled_by_their_subfolder(folder):
    found = samples(folder)
    assert list(found) == ["a.png", "b.jpg", "sub/c.png"]
    assert [sample.label for sample in found.values()] == [None, None, "sub"]
    assert found["sub/c.png"].images == [EncodedImage(raw.png(3), "sub/c.png")]  # the original bytes
    assert found["sub/c.png"].texts == {"path": "sub/c.png", "folder": "sub"}
    assert found["a.png"].captions == []


def test_many_rows_of_one_picture_are_merged_without_comparing_each_with_each():
    class Counted(str):
        asked = 0
        __hash__ = str.__hash__

        def __eq__(self, other):
            Counted.asked += 1
            return str.__eq__(self, other)

    captions = [Counted(i // 2) for i in range(2000)]
    rows = (Sample(str(i), [EncodedImage(None, "a.png")], [caption]) for i, caption in enumerate(captions))
    (merged,), gone = merge_by_picture(rows)
    assert merged.captions == [str(i) for i in range(1000)] and gone == 1999
    assert Counted.asked < 10_000


def test_a_file_is_no_folder(folder):
    with pytest.raises(InputError, match="a.png: expected a folder of pictures"):
        open_dataset(f"folder:{folder / 'a.png'}")


def test_first_level_folders_can_be_splits(tmp_path):
    for split, label in (("train", "cat"), ("val", "dog"), ("test", "")):
        (tmp_path / "set" / split / label).mkdir(parents=True)
        (tmp_path / "set" / split / label / "x.png").write_bytes(raw.png())
    found = samples(tmp_path / "set")
    assert {s.id: (s.split, s.label) for s in found.values()} == {
        "train/cat/x.png": ("train", "cat"),
        "val/dog/x.png": ("validation", "dog"),
        "test/x.png": ("test", None),
    }
    assert split_of("x.png") is None and split_of("cats/x.png") is None


def test_text_files_of_the_same_name(folder):
    (folder / "a.txt").write_text("a first caption\n\n  a second one \n")
    (folder / "b.txt").write_bytes("\ufeffmit Marke".encode())
    (folder / "sub" / "c.txt").write_bytes("UTF-16 sagt es".encode("utf-16"))
    (folder / "README.txt").write_text("not a caption")
    found = samples(folder)
    assert {id: sample.captions for id, sample in found.items()} == {
        "a.png": ["a first caption", "a second one"],
        "b.jpg": ["mit Marke"],
        "sub/c.png": ["UTF-16 sagt es"],
    }
    assert found["sub/c.png"].label is None


def test_bad_text_files(folder):
    (folder / "a.txt").write_bytes(b"caf\xe9")
    (folder / "b.txt").write_text(" \n")
    (folder / "lost.txt").write_text("a caption without its picture")
    assert rejected(folder) == {
        "a.png": "caption not UTF-8",
        "b.jpg": "caption empty",
        "lost.txt": "image missing",
    }
    assert Dataset.open(folder.parent / "imported").ids == ["sub/c.png"]  # a picture without a text file is kept


def test_metadata_jsonl(folder):
    rows = [
        {"file_name": "a.png", "text": "one", "additional": 3, "tags": ["x", "y"], "license": "CC0"},
        {"file_name": "./b.jpg", "captions": ["two", "zwei", " "]},
        {"file_name": "sub/c.png", "caption": "three", "text": "raw alt", "label": 7},
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    found = samples(folder)
    assert found["a.png"].captions == ["one"] and found["a.png"].tags == ["x", "y"]
    assert found["a.png"].license == "CC0" and found["a.png"].texts["additional"] == "3"
    assert found["b.jpg"].captions == ["two", "zwei"]
    assert found["sub/c.png"].captions == ["three"] and found["sub/c.png"].texts["text"] == "raw alt"
    assert found["sub/c.png"].label == "7" and found["sub/c.png"].texts["folder"] == "sub"


def test_metadata_in_subfolders_is_relative_to_them(folder):
    (folder / "sub" / "metadata.jsonl").write_text('{"file_name": "c.png", "text": "below"}\n')
    (folder / "metadata.csv").write_text("file_name,text\na.png,above\n")
    found = samples(folder)
    assert {id: sample.captions for id, sample in found.items()} == {
        "a.png": ["above"],
        "sub/c.png": ["below"],
        "b.jpg": [],  # no table mentions it: kept, without captions
    }
    assert found["b.jpg"].label is None


def test_other_tables_are_left_aside(folder, caplog):
    (folder / "prices.csv").write_text("article,price\ncat,3\n")
    with caplog.at_level(logging.INFO, "diptych"):
        assert len(samples(folder)) == 3
        assert len(samples(folder / "sub")) == 1  # its import lies in `folder` now, and is no part of it:
        assert len(samples(folder)) == 3
    assert "prices.csv is left aside" in caplog.text and "bare pictures" in caplog.text


def test_tables_that_lead_to_no_file_are_left_aside(folder, caplog):
    (folder / "log.csv").write_text("file,text\nmain.c,compiled\n")
    assert len(samples(folder)) == 3 and "column 'file' leads to no file" in caplog.text


def test_urls_in_a_folders_table(folder):
    (folder / "captions.csv").write_text("image,caption\nhttps://example.org/x.png,one\n")
    assert rejected(folder) == {"https://example.org/x.png": "image not on disk"}


def test_pipes_do_not_block(folder):
    os.mkfifo(folder / "a.txt")
    assert rejected(folder) == {"a.png": "caption unreadable"}
    os.mkfifo(folder / "captions.csv")
    with pytest.raises(InputError, match="expected a file"):
        open_dataset(folder)


def test_a_caption_table_without_a_picture_column_is_an_error(folder):
    (folder / "captions.csv").write_text("article,caption\ncat,a cat\n")
    with pytest.raises(InputError, match=r"captions\.csv: no column names the picture.*article, caption"):
        open_dataset(folder)


def test_hidden_files_and_loops_of_links_are_left_out(folder):
    (folder / ".hidden.png").write_bytes(raw.png())
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "a.png").write_bytes(b"resource fork")
    (folder / "sub" / "loop").symlink_to(folder)
    (folder / "again").symlink_to(folder / "sub")
    (folder / "linked.png").symlink_to(folder / "a.png")
    assert list(samples(folder)) == ["a.png", "b.jpg", "sub/c.png", "linked.png"]


def test_files_without_a_known_extension_are_told_by_their_bytes(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    (root / "picture").write_bytes(raw.jpeg())
    (root / "photo.dat").write_bytes(raw.png())
    (root / "notes.doc").write_bytes(b"words")
    assert list(samples(root)) == ["photo.dat", "picture"]


def test_names_that_are_no_unicode(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    (root / "caf\udce9.png").write_bytes(raw.png())
    assert list(samples(root)) == ["caf?.png"]


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.csv", "image,caption\na.png,one\nb.jpg,two\n"),
        ("captions.csv", "\ufefffilepath;title\r\na.png;one\r\nb.jpg;two\r\n"),
        ("captions.tsv", "path\tsentence\na.png\tone\nb.jpg\ttwo"),
        ("captions.txt", "image,caption\na.png,one\nb.jpg,two\n"),
        ("pairs.csv", '"Image Path"|"Description"\n"a.png"|"one"\nb.jpg|two\n'),
        ("pairs.csv", "a.png,one\nb.jpg,two\n"),
        ("list.ndjson", '{"img": "a.png", "alt": "one"}\r\n{"img": "b.jpg", "alt": "two"}\r\n'),
        ("windows.csv", "file,text\n.\\a.png,one\nsub\\..\\b.jpg,two\n"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tables_alone_and_in_their_folder(folder, name, text, encoding):
    (folder / name).write_bytes(text.removeprefix("\ufeff").encode(encoding) if encoding == "utf-16" else text.encode())
    alone = samples(folder / name)
    assert {id: sample.captions for id, sample in alone.items()} == {"a.png": ["one"], "b.jpg": ["two"]}
    inside = samples(folder)
    assert {id: sample.captions for id, sample in inside.items()} == {
        "a.png": ["one"],
        "b.jpg": ["two"],
        "sub/c.png": [],
    }


def test_rows_of_one_picture_are_merged(folder):
    rows = "a.png,one,x,\nb.jpg,two,,\n./a.png,uno,y,Ann\na.png,one,x,Bob\n"
    (folder / "captions.csv").write_text("image,caption,tags,creator\n" + rows)
    report = import_dataset(folder / "captions.csv", folder.parent / "out")
    assert (report.rows, report.merged, report.seen) == (2, 2, 2)
    first = Dataset.open(folder.parent / "out")[0]
    assert first.captions == ["one", "uno"] and first.tags == ["x", "y"] and first.creator == "Ann"


def test_several_caption_columns(folder):
    (folder / "t.csv").write_text(
        "image,caption_1,caption_2,Caption,Caption\na.png,one,two,three,four\nb.jpg,,,,five\n"
    )
    found = samples(folder / "t.csv")
    assert found["a.png"].captions == ["one", "two", "four"]  # the second Caption counts as numbered
    assert found["a.png"].texts["Caption"] == "three"
    assert found["b.jpg"].captions == ["five"]


def test_quotes_newlines_and_blank_lines(folder):
    (folder / "t.csv").write_text(
        'image,caption\na.png,"first line\nsecond ""quoted"", line\u2028still"\n\n   \n'
        'b.jpg,"He said" so\nsub/c.png,5" wide\n'
    )
    found = samples(folder / "t.csv")
    assert found["a.png"].captions == ['first line\nsecond "quoted", line\u2028still']
    assert found["b.jpg"].captions == ['"He said" so']
    assert found["sub/c.png"].captions == ['5" wide']


def test_an_unpaired_quote_costs_one_row(folder):
    (folder / "t.csv").write_text('image,caption\na.png,"never closed\nb.jpg,fine\nsub/c.png,fine too\n')
    assert rejected(folder / "t.csv") == {"t.csv:2": "row broken"}
    assert Dataset.open(folder / "imported").ids == ["b.jpg", "sub/c.png"]


def test_columns_without_a_name(folder):
    (folder / "t.csv").write_text(",image,caption,\n0,a.png,one,x\n")  # as pandas writes its index
    assert samples(folder / "t.csv")["a.png"].texts == {"column_1": "0", "column_4": "x", "path": "a.png"}
    assert samples(folder / "t.csv")["a.png"].tags == []


def test_side_columns_find_their_fields(folder):
    (folder / "t.csv").write_text(
        "id,image,title,description,keywords,author,licence,source_url,origin\n"
        '7,a.png,A title,,"x, y;z",Ann,CC0,https://e.org,attic\n,b.jpg,,Only this,,,,,\n'
    )
    found = samples(folder / "t.csv")
    one = found["7"]
    assert (one.captions, one.tags, one.creator, one.license) == (["A title"], ["x", "y", "z"], "Ann", "CC0")
    assert one.url == "https://e.org"
    assert one.texts == {"title": "A title", "description": "", "origin": "attic", "path": "a.png"}
    assert found["b.jpg"].captions == ["Only this"] and found["b.jpg"].creator is None


def test_paths_may_start_from_an_images_folder_beside_the_table(folder):
    (folder / "sub").rename(folder / "Images")
    (folder / "captions.txt").write_text("image,caption\nc.png,below\n")
    assert samples(folder / "captions.txt")["Images/c.png"].captions == ["below"]
    assert samples(folder)["Images/c.png"].captions == ["below"]


def test_tables_cannot_reach_outside_their_folder(folder, tmp_path):
    (tmp_path / "secret.png").write_bytes(raw.png())
    inside = folder / "a.png"
    (folder / "sub" / "t.csv").write_text(
        f"image,caption\n../a.png,up\n{inside},absolute\n/etc/passwd,x\nhttp://e.org/a.png,y\n"
    )
    out = tmp_path / "out"
    report = import_dataset(folder / "sub" / "t.csv", out)
    assert report.rejected == {"path outside the folder": 3, "image not on disk": 1}
    report = import_dataset(folder / "sub" / "t.csv", out, root=folder)
    assert report.rejected == {"path outside the folder": 2, "image not on disk": 1}  # /etc/passwd; ../ leaves folder
    (folder / "t.csv").write_text(f"image,caption\nsub/../a.png,up and down\n{inside},absolute\n../secret.png,out\n")
    report = import_dataset(folder / "t.csv", out)
    assert (report.rows, report.rejected) == (2, {"path outside the folder": 1})
    assert rejected(folder)["../secret.png"] == "path outside the folder"


def test_json_lines_rows_fail_alone(folder):
    lines = [
        b'{"file_name": "a.png", "text": "fine"}',
        b'{"file_name": "b.jpg", "text": "broken"',
        b'["b.jpg", "not an object"]',
        b'{"file_name": "b.jpg", "text": "caf\xe9"}',
        b'{"file_name": 5, "text": "x"}',
        b'{"file_name": "b.jpg", "text": {"en": "x"}}',
        b'{"file_name": "b.jpg", "text": [1, 2]}',
        b'{"file_name": "b.jpg", "text": "  "}',
        b'{"file_name": "b.jpg"}',
        b'{"file_name": "", "text": "x"}',
        b'{"text": "x"}',
        b'{"file_name": "b.jpg", "text": "half \\ud83d"}',
        b"[" * 100_000,
        b'{"file_name": "b.jpg", "n": ' + b"9" * 5000 + b"}",
    ]
    (folder / "metadata.jsonl").write_bytes(b"\n".join(lines))
    report = import_dataset(folder / "metadata.jsonl", folder.parent / "out")
    assert report.rows == 1 and report.seen == len(lines)
    assert report.rejected == {
        "row broken": 4,
        "caption not UTF-8": 2,
        "wrong type": 3,
        "caption empty": 2,
        "image missing": 2,
    }


# ---------------------------------------------------------------- Parquet


@pytest.mark.parametrize("kind", ["struct", "binary", "large_binary", "list", "path", "struct path"])
def test_parquet_holds_pictures_in_many_ways(folder, kind):
    data = [raw.png(1), raw.jpeg(2)]
    structs = [{"bytes": data[0], "path": "x/a.png"}, {"bytes": data[1], "path": None}]
    image = {
        "struct": pa.array(structs),
        "binary": pa.array(data, pa.binary()),
        "large_binary": pa.array(data, pa.large_binary()),
        "list": pa.array([[structs[0], structs[1]], [structs[1]]]),
        "path": pa.array(["a.png", "b.jpg"]),
        "struct path": pa.array([{"bytes": None, "path": "a.png"}, {"bytes": None, "path": "b.jpg"}]),
    }[kind]
    table = pa.table({"image": image, "captions": [["one", "uno"], ["two"]], "split": ["train", None]})
    pq.write_table(table, folder / "t.parquet")
    found = list(samples(folder / "t.parquet").values())
    assert [s.captions for s in found] == [["one", "uno"], ["two"]]
    assert found[0].images[0].data == data[0] and found[1].images[-1].data == data[1]
    assert len(found[0].images) == (2 if kind == "list" else 1)
    assert found[0].split == "train" and found[1].split is None
    first = {"struct": "x/a.png", "list": "x/a.png", "path": "a.png", "struct path": "a.png"}.get(kind, "t.parquet#0")
    assert found[0].id == first


def test_parquet_with_titles_and_dictionary_columns(folder):
    table = pa.table(
        {
            "jpg": pa.array([raw.jpeg(1), raw.jpeg(2)]),
            "title": pa.array(["same", "same"]).dictionary_encode(),
            "description": ["long", None],
            "tags": [["x"], None],
            "width": [24, 24],
        }
    )
    pq.write_table(table, folder / "t.parquet")
    one, two = samples(folder / "t.parquet").values()
    assert one.captions == two.captions == ["same"] and one.tags == ["x"] and two.tags == []
    assert one.texts == {"title": "same", "description": "long", "width": "24"}
    assert two.texts == {"title": "same", "width": "24"}


def test_parquet_paths_are_merged_like_any_table(folder):
    pq.write_table(pa.table({"path": ["a.png", "b.jpg", "a.png"], "caption": ["1", "2", "3"]}), folder / "t.parquet")
    report = import_dataset(folder / "t.parquet", folder.parent / "out")
    assert (report.rows, report.merged) == (2, 1)
    assert Dataset.open(folder.parent / "out")[0].captions == ["1", "3"]


def test_a_folder_of_parquet_files_survives_a_broken_one(tmp_path):
    root = tmp_path / "many"
    (root / "sub").mkdir(parents=True)
    for i, name in enumerate(("a.parquet", "b.parquet", "sub/c.parquet")):
        pq.write_table(pa.table({"image": [raw.png(i)], "text": [f"caption {i}"]}), root / name)
    pq.write_table(pa.table({"x": [1]}), root / "d.parquet")
    (root / "b.parquet").write_bytes(b"PAR1 but no more PAR1")
    assert rejected(root) == {"b.parquet": "file broken", "d.parquet": "file broken"}
    assert Dataset.open(tmp_path / "imported").ids == ["a.parquet#0", "sub/c.parquet#0"]


def test_a_broken_row_group_costs_its_own_rows(tmp_path):
    path = tmp_path / "t.parquet"
    table = pa.table({"image": [raw.png(i) for i in range(6)], "text": ["caption"] * 6})
    pq.write_table(table, path, row_group_size=2, compression="zstd", use_dictionary=False)
    column = pq.read_metadata(path).row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset : column.data_page_offset + column.total_compressed_size] = bytes(
        column.total_compressed_size
    )
    path.write_bytes(data)
    assert rejected(path) == {"t.parquet#2": "row broken", "t.parquet#3": "row broken"}
    assert len(Dataset.open(tmp_path / "imported")) == 4


def test_parquet_text_that_is_not_utf8(tmp_path):
    texts = pa.array([b"fine", b"caf\xe9", b"x"]).cast(pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), text)
    for name, captions in (("plain", text), ("lists", lists)):
        pq.write_table(pa.table({"image": [raw.png()] * 3, "text": captions}), tmp_path / f"{name}.parquet")
        assert rejected(tmp_path / f"{name}.parquet") == {f"{name}.parquet#1": "caption not UTF-8"}


def test_parquet_rows_without_a_picture_or_caption(tmp_path):
    table = pa.table({"image": pa.array([None, raw.png(), raw.png(), b""]), "text": ["a", None, "b", "c"]})
    pq.write_table(table, tmp_path / "t.parquet")
    reasons = {"t.parquet#0": "image missing", "t.parquet#1": "caption empty", "t.parquet#3": "image empty"}
    assert rejected(tmp_path / "t.parquet") == reasons


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"text": ["a"], "n": [1]}, "no column holds pictures.*text, n"),
        ({"image": [b"x"], "caption": [1]}, "column 'caption': expected text.*int64"),
        ({"image": [1], "text": ["a"]}, "no column holds pictures"),
    ],
)
def test_parquet_of_wrong_types_is_an_error(tmp_path, columns, says):
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=rf"t\.parquet.*{says}"):
        open_dataset(tmp_path / "t.parquet")


def test_a_diptych_dataset_is_imported_whole(folder):
    with DatasetWriter(folder.parent / "d") as out:
        out.write(Sample(id="good", images=[EncodedImage(raw.png(), "x.png")], scores={"s": 1.0}))
        out.write(Sample(id="bad", images=[EncodedImage(raw.png()[:-40])]))
        out.write(Sample(id="text only", captions=["words"]))
    assert rejected(folder.parent / "d") == {"bad": "image truncated"}
    assert Dataset.open(folder.parent / "imported")[0].scores == {"s": 1.0}


# ---------------------------------------------------------------- recognition


def test_recognition(folder, tmp_path):
    (tmp_path / "t.jsonl").write_text("{}")
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "no-suffix")
    assert recognise(folder) == "folder" and recognise(tmp_path / "t.jsonl") == "table"
    assert recognise(tmp_path / "no-suffix") == "parquet"
    (tmp_path / "nothing").mkdir()
    for unknown in (tmp_path / "nothing", folder / "a.png"):
        with pytest.raises(InputError, match="expected a folder of pictures"):
            recognise(unknown)
    with pytest.raises(InputError, match="no such file"):
        recognise(tmp_path / "absent")
    assert list(FORMATS)[-3:] == ["parquet", "table", "folder"]  # the vague ones are asked last


def test_column_names():
    columns = choose_columns(["Text", "File Name", "URL", "n"])
    assert columns.image == "File Name" and columns.captions == ("Text",) and columns.fields == {"url": "URL"}
    assert columns.side == ("Text", "n")
    assert choose_columns(["a", "b"]) is None
    assert choose_columns(["a", "b"], "a").image == "a"


def test_text_encodings():
    assert decode_text("é".encode()) == decode_text("\ufeffé".encode()) == decode_text("é".encode("utf-16")) == "é"
    assert decode_text(b"caf\xe9") == "caf\udce9"
    assert decode_text(b"\xfe\xff\x00a\x00").endswith("a\x00"), "half a letter of UTF-16: shown as it is, refused later"


def test_open_dataset_says_what_it_recognised(folder, caplog):
    (folder / "captions.csv").write_text("image,caption\na.png,one\n")
    with caplog.at_level(logging.INFO, "diptych"):
        open_dataset(folder)
    assert "an image folder of 3 pictures: captions.csv (pictures: column 'image', captions: caption)" in caplog.text
    assert "3 rows, 0 rejected" in caplog.text


def test_arrays_of_many_rows_keep_their_order(tmp_path):
    table = pa.table({"image": [raw.png(i % 7) for i in range(300)], "text": [str(i) for i in range(300)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=70)
    dataset = open_dataset(tmp_path / "t.parquet")
    assert dataset.column("captions") == [[str(i)] for i in range(300)]
    picks = np.random.default_rng(0).permutation(300)
    assert [s.captions for s in dataset.take(picks)] == [[str(i)] for i in picks]
