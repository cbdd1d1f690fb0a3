"""Formats that people exchange: what is written opens again equal, and other programs read it."""

import json

import numpy as np
import pytest
import raw_pictures as raw

from diptych.data import Dataset, DatasetWriter, export_dataset, import_dataset, masks, open_dataset
from diptych.data.formats import FORMATS, recognise
from diptych.data.formats.written import safe_name, suffix_of
from diptych.types import EncodedImage, InputError, Message, Negative, Object, Question, Region, Relation, Sample


def full_sample() -> Sample:
    """One with every field filled."""
    inside = np.zeros((6, 8), bool)
    inside[1:4, 2:5] = True
    return Sample(
        "a/b.c",
        [EncodedImage(raw.png(1), "where/it/was.png")],
        ["a cat", "the same cat"],
        label="cat",
        tags=["pet"],
        objects=[Object("cat", (2, 1, 5, 4), masks.encode(inside), ["red"], "7", "crowd", 2.5), Object("mat")],
        relations=[Relation(0, "on", 1)],
        regions=[Region("the red cat", (2, 1, 5, 4), 0)],
        questions=[
            Question("How many?", ["1", "one"], "count", "q1", ["1", "2"], True, '[{"function": "count"}]'),
            Question("Why?", answerable=False),
        ],
        negatives=[Negative("a mat on a cat", "swapped", 1)],
        messages=[Message("user", "<image> What?"), Message("assistant", "A cat.")],
        texts={"title": "Cat"},
        source="us",
        license="CC0-1.0",
        url="https://example.org/a.png",
        creator="Ann",
        split="train",
        group="g",
        scores={"clip": 0.25},
    )


@pytest.fixture
def dataset(tmp_path):
    with DatasetWriter(tmp_path / "source") as out:
        out.write(full_sample())
        out.write(Sample("plain", [EncodedImage(raw.jpeg(2))], ["a dog", "two dogs"], label="dog"))
        out.write(
            Sample("pair", [EncodedImage(raw.png(3)), EncodedImage(raw.png(4))], questions=[Question("?", ["x"])])
        )
        out.write(Sample("words", captions=["only words"]))
    return Dataset.open(tmp_path / "source")


def bytes_of(sample: Sample) -> list[bytes | None]:
    return [image.data for image in sample.images]


def test_parquet_gives_every_field_back(dataset, tmp_path):
    report = export_dataset(dataset, f"parquet:{tmp_path / 'out'}")
    assert report.left_out == {} and report.samples == 4
    again = open_dataset(tmp_path / "out")
    assert list(again) == list(dataset) and again[0] == full_sample() and again.name == "out"
    assert list(open_dataset(f"parquet:{tmp_path / 'out'}")) == list(dataset)
    assert import_dataset(f"parquet:{tmp_path / 'out'}", tmp_path / "copy").rows == 4


def test_chat_round_trip(dataset, tmp_path):
    report = export_dataset(dataset, f"chat:{tmp_path / 'out'}")
    assert report.left_out == {"nothing to say": 1}  # no picture to be described
    assert recognise(tmp_path / "out") == "chat"
    again = open_dataset(tmp_path / "out")
    assert again.ids == ["a/b.c", "plain", "pair"]
    assert [bytes_of(s) for s in again] == [bytes_of(s) for s in dataset.take([0, 1, 2])]
    assert again[0].messages == full_sample().messages
    assert again[1].messages == [Message("user", "<image>\nDescribe the picture."), Message("assistant", "a dog")]
    assert again[2].messages == [Message("user", "<image>\n<image>\n?"), Message("assistant", "x")]
    export_dataset(again, f"chat:{tmp_path / 'twice'}")
    assert list(open_dataset(tmp_path / "twice")) == list(again)
    assert (tmp_path / "twice" / "chat.jsonl").read_bytes() == (tmp_path / "out" / "chat.jsonl").read_bytes()


def test_table_and_folder_round_trip_and_say_what_they_leave_out(dataset, tmp_path):
    report = export_dataset(dataset, f"table:{tmp_path / 't'}")
    assert report.left_out == {"not one picture with captions": 2}
    again = open_dataset(tmp_path / "t" / "pairs.tsv")
    assert [s.captions for s in again] == [["a cat", "the same cat"], ["a dog", "two dogs"]]
    assert [bytes_of(s) for s in again] == [bytes_of(s) for s in dataset.take([0, 1])]
    assert (tmp_path / "t" / "pairs.tsv").read_text().splitlines()[0] == "filepath\ttitle"

    report = export_dataset(dataset, f"folder:{tmp_path / 'f'}")
    assert report.left_out == {"not one picture": 2}
    again = open_dataset(tmp_path / "f")
    assert recognise(tmp_path / "f") == "folder" and len(again) == 2
    want, got = full_sample(), again[0]
    for name in ("id", "captions", "label", "tags", "source", "license", "url", "creator", "split"):
        assert getattr(got, name) == getattr(want, name), name
    assert got.texts["title"] == "Cat" and bytes_of(got) == bytes_of(want)


def test_words_that_look_like_a_picture_are_left_out_of_chat(tmp_path):
    with DatasetWriter(tmp_path / "d") as out:
        out.write(Sample("a", [EncodedImage(raw.png(1))], ["the <image> tag of a page"]))
        out.write(Sample("b", [EncodedImage(raw.png(2))], ["a page"]))
    report = export_dataset(Dataset.open(tmp_path / "d"), f"chat:{tmp_path / 'out'}")
    assert report.left_out == {"more places than pictures": 1} and open_dataset(tmp_path / "out").ids == ["b"]


def test_a_folder_keeps_pictures_that_have_no_caption(tmp_path):
    with DatasetWriter(tmp_path / "d") as out:
        out.write(Sample("a", [EncodedImage(raw.png(1))], ["a cat"]))
        out.write(Sample("b", [EncodedImage(raw.png(2))], label="cat"))
        out.write(Sample("c", [EncodedImage(raw.png(3))], texts={"title": "No caption"}))
    for rows in ([0, 1, 2], [1, 2]):
        export_dataset(Dataset.open(tmp_path / "d").select(rows), f"folder:{tmp_path / str(len(rows))}")
        again = open_dataset(tmp_path / str(len(rows)))
        assert again.card["rejected"] == {} and again.ids == ["abc"[row] for row in rows]
        assert again.column("captions")[-2:] == [[], []] and "texts.captions" not in again.fields()
        assert again.column("texts.title")[-1] == "No caption"


def test_odd_captions_survive_a_table(tmp_path):
    captions = ['two\nlines, "quoted"\tand a tab', "a\rb", "c\r\nd", '"all quoted"', "# no comment", "ü \u2028 x"]
    with DatasetWriter(tmp_path / "d") as out:
        out.write(Sample("a", [EncodedImage(raw.png(1))], captions))
    export_dataset(Dataset.open(tmp_path / "d"), f"table:{tmp_path / 'out'}")
    again = open_dataset(tmp_path / "out" / "pairs.tsv")
    assert again.column("captions") == [[c.replace("\r\n", "\n").replace("\r", "\n") for c in captions]]
    assert again.card["rejected"] == {}


def test_a_view_exports_its_own_rows(dataset, tmp_path):
    export_dataset(dataset.select([3, 1]), f"parquet:{tmp_path / 'out'}")
    assert open_dataset(tmp_path / "out").ids == ["words", "plain"]


@pytest.mark.parametrize("to", ["out", "nothing:out", "redcaps:out", "text:out", "chat:out?x=1"])
def test_a_format_that_cannot_be_written_is_refused(dataset, tmp_path, monkeypatch, to):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="expected FORMAT:FOLDER where the format is one of"):
        export_dataset(dataset, to)


def test_an_export_is_all_or_nothing(dataset, tmp_path, monkeypatch):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").touch()
    with pytest.raises(InputError, match="exists already"):
        export_dataset(dataset, f"chat:{tmp_path / 'taken'}")

    def stop(samples, folder):
        (folder / "half").touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(FORMATS, "chat", FORMATS["chat"]._replace(write=stop))
    with pytest.raises(OSError, match="No space"):
        export_dataset(dataset, f"chat:{tmp_path / 'new'}")
    assert sorted(path.name for path in tmp_path.iterdir() if "cache" not in path.name) == ["source", "taken"]


def test_names_of_files_are_safe_and_distinct(tmp_path):
    assert safe_name("../../etc/passwd") == "passwd" and safe_name("a b/ü?.jpg") == "_"
    assert safe_name("cat.jpg") == "cat" and safe_name(".") == "_" and len(safe_name("x" * 999)) == 100
    with DatasetWriter(tmp_path / "d") as out:
        for id in ("x/A", "y/a", "z/a", "a-2"):
            out.write(Sample(id, [EncodedImage(raw.png(len(id)))], [id]))
    export_dataset(Dataset.open(tmp_path / "d"), f"table:{tmp_path / 'f'}")
    names = [path.name.casefold() for path in (tmp_path / "f" / "images").iterdir()]
    assert len(set(names)) == 4
    assert open_dataset(tmp_path / "f").column("captions") == [["x/A"], ["y/a"], ["z/a"], ["a-2"]]
    assert suffix_of(raw.jpeg(1)) == ".jpg" and suffix_of(raw.png(1)) == ".png" and suffix_of(b"") == ".img"
    assert suffix_of(b"MM\0*") == ".tif" and suffix_of(b"P6 1 1 255\n") == ".ppm" and suffix_of(b"PK") == ".img"


# ---------------------------------------------------------------- reading conversations of other people


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "chat").mkdir()
    for name in ("a", "b"):
        (tmp_path / "chat" / f"{name}.png").write_bytes(raw.png(ord(name)))
    return tmp_path / "chat"


def read_chat(path, tmp_path) -> tuple[list[Sample], dict[str, int]]:
    report = import_dataset(path, tmp_path / "imported")
    assert report.format == "chat"
    return list(Dataset.open(tmp_path / "imported")), report.rejected


def test_parts_and_older_layouts(pictures, tmp_path):
    parts = [{"type": "text", "text": "What is "}, {"type": "image"}, {"type": "text", "text": "?"}]
    named = [{"type": "image", "image": "b.png"}, {"type": "image_url", "image_url": {"url": "a.png"}}]
    lines = [
        {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "A."}], "images": ["a.png"]},
        {"messages": [{"role": "user", "content": named}], "id": 7},
        {"messages": [{"role": "user", "content": "no picture"}], "images": [{"path": "a.png"}]},
    ]
    file = pictures / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    samples, rejected = read_chat(file, tmp_path)
    assert rejected == {} and [len(s.images) for s in samples] == [1, 2, 1] and samples[1].id == "7"
    assert samples[0].messages == [Message("user", "What is <image>?"), Message("assistant", "A.")]
    assert samples[1].messages == [Message("user", "<image><image>")]
    assert bytes_of(samples[1]) == [raw.png(ord("b")), raw.png(ord("a"))]

    older = [{"id": "x", "image": "a.png", "conversations": [{"from": "human", "value": "<image>\nHi"}]}]
    file = pictures / "older.json"
    file.write_text(json.dumps(older))
    samples, rejected = read_chat(file, tmp_path)
    assert rejected == {} and samples[0].id == "x" and samples[0].messages == [Message("user", "<image>\nHi")]


def test_bad_conversations_are_counted_and_the_others_stay(pictures, tmp_path):
    good = {"messages": [{"role": "user", "content": "<image>"}], "images": ["a.png"]}
    bad = {
        "row broken": '{"messages": [',
        "image missing": json.dumps({**good, "images": []}),
        "wrong type": json.dumps({"messages": [{"role": "user", "content": 3}]}),
        "field missing": json.dumps({"images": ["a.png"]}),
        "conversation empty": json.dumps({"messages": []}),
        "path outside the folder": json.dumps({**good, "images": ["../../x.png"]}),
        "image not on disk": json.dumps({**good, "images": ["https://example.org/x.png"]}),
    }
    file = pictures / "chat.jsonl"
    file.write_text("\n".join([json.dumps(good), *bad.values(), json.dumps(good)]))
    samples, rejected = read_chat(pictures, tmp_path)
    assert len(samples) == 2 and rejected == dict.fromkeys(bad, 1)
    (pictures / "list.json").write_text(json.dumps([good])[:-5])
    with pytest.raises(InputError, match=r"list.json: expected JSON"):
        open_dataset(f"chat:{pictures / 'list.json'}")


def test_texts_alone(tmp_path):
    import gzip

    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text("one\n\n  two \n")
    with gzip.open(folder / "b.jsonl.gz", "wt") as file:
        file.write('{"text": "three"}\n{"text": 3}\n{"other": 1}\n{"text": "  "}\nnot json\n')
    dataset = open_dataset(f"text:{folder}")
    assert [s.captions for s in dataset] == [["one"], ["two"], ["three"]]
    reasons = {"wrong type": 1, "field missing": 1, "caption empty": 1, "row broken": 1}
    assert dataset.card["rejected"] == reasons
    assert [s.captions for s in open_dataset(f"text:{folder}?field=other")][2:] == []
    (folder / "c.txt.gz").write_bytes(b"\x1f\x8bbroken")
    with pytest.raises(InputError, match=r"c\.txt\.gz: cannot be read"):
        open_dataset(f"text:{folder}")
    with pytest.raises(InputError, match="no option 'fields'; it has field"):
        open_dataset(f"text:{folder}?fields=x")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("nothing:here", "no format 'nothing'; the formats are"),
        ("text:missing", "missing: no such file or folder"),
        ("text:.?field", "expected options like"),
        ("text:.?field=a&field=b", "given twice"),
        ("nowhere", "no such dataset"),
    ],
)
def test_addresses_that_lead_nowhere(tmp_path, monkeypatch, address, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=says):
        open_dataset(address)


def test_a_file_whose_name_has_a_colon_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text:a.csv").write_text("image,caption\nx.png,a\n")
    (tmp_path / "x.png").write_bytes(raw.png(1))
    assert open_dataset("text:a.csv").column("captions") == [["a"]]


@pytest.mark.parametrize("address", ["", "coco:", "text:", "table:?x=1"])
def test_an_empty_address_is_not_the_current_folder(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").write_bytes(raw.png(1))
    with pytest.raises(InputError, match="no such"):
        open_dataset(address)
    with pytest.raises(InputError, match="no such"):
        import_dataset(address, tmp_path / "out")
