"""Tables of URLs row by row, and what is known of a table before anything is asked."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diptych.data import DatasetWriter, open_dataset
from diptych.data.fetch.survey import Refused, Survey, Wanted
from diptych.data.fetch.tables import open_table
from diptych.types import EncodedImage, InputError, Rejected, Sample

# ---------------------------------------------------------------- tables


def rows_of(path: Path) -> list[Sample | Rejected]:
    return list(open_table(path)())


def urls_of(path: Path) -> list[str | None]:
    return [row.images[0].path if isinstance(row, Sample) else f"({row.reason})" for row in rows_of(path)]


def table(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_csv_with_a_column_of_urls(tmp_path: Path) -> None:
    path = table(tmp_path, "t.csv", 'URL,Text,License,width\nhttp://a/1,one,cc-by,5\nhttp://a/2,"two, or\nmore",,6\n')
    one, two = rows_of(path)
    assert isinstance(one, Sample) and isinstance(two, Sample)
    assert (one.url, one.captions, one.license, one.texts) == ("http://a/1", ["one"], "cc-by", {"width": "5"})
    assert two.captions == ["two, or\nmore"] and (one.id, two.id) == ("t.csv:2", "t.csv:3")


def test_the_picture_is_taken_and_not_the_page(tmp_path: Path) -> None:
    (row,) = rows_of(table(tmp_path, "t.tsv", "url\timage_url\tcaption\nhttp://a/page\thttp://a/1.jpg\tc\n"))
    assert isinstance(row, Sample)
    assert (row.images, row.url) == ([EncodedImage(None, "http://a/1.jpg")], "http://a/page")


def test_lists_of_urls_need_no_header(tmp_path: Path) -> None:
    assert urls_of(table(tmp_path, "t.txt", "http://a/1\nhttp://a/2\n")) == ["http://a/1", "http://a/2"]
    path = table(tmp_path, "u.tsv", "a cat\thttp://a/1\na dog\thttp://a/2\n")
    assert [row.captions for row in rows_of(path) if isinstance(row, Sample)] == [["a cat"], ["a dog"]]


def test_json_lines_with_changing_fields(tmp_path: Path) -> None:
    lines = ['{"url": "http://a/1", "caption": "x"}', '{"caption": "y", "image_url": "http://a/2"}', "", "{broken"]
    lines += ['{"caption": "z"}', '{"url": null}', "[1]", '{"url": 7}']
    expected = [
        "http://a/1",
        "http://a/2",
        "(row broken)",
        "(url missing)",
        "(url missing)",
        "(row broken)",
        "(url missing)",
    ]
    assert urls_of(table(tmp_path, "t.jsonl", "\n".join(lines))) == expected


def test_a_broken_row_costs_itself_only(tmp_path: Path) -> None:
    text = 'url,caption\nhttp://a/1,"never ends\nhttp://a/2,two\nhttp://a/3,a "quoted" word\nhttp://a/4,too,many\n\nhttp://a/5,five\n'
    expected = ["(row broken)", "http://a/2", "http://a/3", "(row broken)", "http://a/5"]
    assert urls_of(table(tmp_path, "t.csv", text)) == expected


def test_encodings(tmp_path: Path) -> None:
    assert urls_of(table(tmp_path, "a.csv", b"\xef\xbb\xbfurl\nhttp://a/1\n")) == ["http://a/1"]
    assert urls_of(table(tmp_path, "b.csv", "url,caption\r\nhttp://a/1,é\r\n".encode("utf-16"))) == ["http://a/1"]
    assert urls_of(table(tmp_path, "c.csv", b"url,caption\nhttp://a/1,\xff\n")) == ["(caption not UTF-8)"]


def test_parquet_without_captions_and_a_folder_of_tables(tmp_path: Path) -> None:
    for i in range(2):
        pq.write_table(pa.table({"url": [f"http://a/{i}", None]}), tmp_path / f"part-{i}.parquet")
    assert urls_of(tmp_path / "part-0.parquet") == ["http://a/0", "(url missing)"]
    assert urls_of(tmp_path) == ["http://a/0", "(url missing)", "http://a/1", "(url missing)"]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (
            "t.csv",
            "file_name,caption\na.jpg,x\n",
            "column of URLs called url, image_url or alike; found file_name, caption",
        ),
        ("t.csv", "", "column of URLs"),
        ("t.jsonl", '{"a": 1}\n', "column of URLs"),
        ("t.parquet", "PAR1 no", "cannot be read as Parquet"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        open_table(table(tmp_path, name, text))
    with pytest.raises(InputError, match="no such file"):
        open_table(tmp_path / "nothing.csv")


# ---------------------------------------------------------------- the survey


def test_what_has_its_pictures_is_refused(tmp_path: Path) -> None:
    expected = "expected a TABLE: a CSV, TSV, JSON-lines or Parquet file with a column of URLs, or a dataset whose"
    with pytest.raises(InputError, match=rf"^clipart: its [\d,]+ rows have their pictures already; {expected}"):
        open_table("clipart")
    with pytest.raises(InputError, match=f"^clipar: no such file, folder or built-in dataset; {expected}"):
        open_table("clipar")
    with DatasetWriter(tmp_path / "mixed", name="mixed") as writer:
        writer.write(Sample(id="here", images=[open_dataset("clipart")[0].images[0]]))
        writer.write(Sample(id="there", url="http://a/1"))
    assert [row.id for row in rows_of(tmp_path / "mixed")] == ["here", "there"], "a row is left to fetch"


def test_rows_of_one_url_come_together(tmp_path: Path) -> None:
    text = "url,caption,license\n"
    text += "http://a/1,a,cc\nhttp://a/2,b,cc\nhttp://a/1#top,c,cc\nftp://a/3,d,cc\nhttp://a/1,e,no\nhttp://a/1,f,CC\n"
    survey = Survey(open_table(table(tmp_path, "t.csv", text)), ["cc*"], tmp_path)
    walked = list(survey.walk())
    wanted = [row for row in walked if isinstance(row, Wanted)]
    assert survey.rows == 6
    assert [(w.row, w.url, [n for n, _ in w.others]) for w in wanted] == [
        (0, "http://a/1", [2, 5]),
        (1, "http://a/2", []),
    ]
    assert [sample.captions for _, sample in wanted[0].others] == [["c"], ["f"]]
    assert [(r.row, r.why.reason) for r in walked if isinstance(r, Refused)] == [
        (3, "url not valid"),
        (4, "license not asked for"),
    ]


def test_ids_are_unique_and_plain(tmp_path: Path) -> None:
    rows = [Sample("a", url="http://a/1"), Sample("../b\n\x00", url="http://a/2"), Sample("a", url="http://a/3")]
    rows += [Sample("x" * 999, url="http://a/4"), Sample("", url="http://a/5")]
    found = [w.sample.id for w in Survey(lambda: iter(rows), [], tmp_path).walk() if isinstance(w, Wanted)]
    assert found == ["a#0", "../b_#1", "a#2", "x" * 200 + "#3", "#4"]


def test_the_digest_tells_tables_and_licenses_apart(tmp_path: Path) -> None:
    def digest(*urls: str, licenses: tuple[str, ...] = ()) -> str:
        rows = [Sample(str(i), url=url, license="x") for i, url in enumerate(urls)]
        return Survey(lambda: iter(rows), licenses, tmp_path).digest

    one = digest("http://a/1", "http://a/2")
    assert one == digest("http://a/1", "http://a/2")
    others = [
        digest("http://a/2", "http://a/1"),
        digest("http://a/1"),
        digest("http://a/1", "http://a/2", licenses=("x",)),
    ]
    assert len({one, *others}) == 4
