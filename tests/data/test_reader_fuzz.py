"""Whatever bytes a source holds: a reader yields rows or says in one sentence what is wrong. It does not crash."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import raw_pictures as raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diptych.data import Dataset, import_dataset
from diptych.types import InputError

CSV = b'image,caption,tags\na.png,"one, quoted","x;y"\nb.png,two\nb.png,"line\nbreak",z\nc.png,four,\n'
JSONL = b'{"file_name": "a.png", "text": "one"}\n{"file_name": "b.png", "captions": ["two", null]}\n{"image": 3}\n'


def parquet(compression: str) -> bytes:
    table = pa.table(
        {
            "image": [{"bytes": raw.png(), "path": "a.png"}, {"bytes": None, "path": "b.png"}, None],
            "caption": ["one", "two", "three"],
            "tags": [["x"], [], None],
            "n": [1, 2, 3],
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=compression, row_group_size=2)
    return buffer.getvalue()


VALID = {
    "t.csv": [CSV],
    "t.tsv": [CSV.replace(b",", b"\t"), CSV.decode().encode("utf-16")],
    "metadata.jsonl": [JSONL, JSONL.decode().encode("utf-16")],
    "t.parquet": [parquet("none"), parquet("zstd")],
    "a.txt": [b"one caption\nand another\n"],
    "a.png": [raw.png()],
}
PATCHES = st.lists(
    st.tuples(
        st.integers(0, 10_000),
        st.one_of(
            st.binary(max_size=8), st.sampled_from([b'"', b"\n", b"\xff\xfe", b"\0", b"\xed\xa0\x80", b"[", b"../"])
        ),
        st.integers(0, 12),
    ),
    max_size=5,
)


def mutate(data: bytes, patches: list[tuple[int, bytes, int]], cut: int) -> bytes:
    for at, patch, removed in patches:
        at %= len(data) + 1
        data = data[:at] + patch + data[at + removed :]
    return data[: len(data) * cut // 8]


def survives(folder, source) -> None:
    """An import either ends with every row accounted for, or refuses the source with a sentence."""
    calls = []
    try:
        report = import_dataset(source, folder / "out", lambda done, total: calls.append(done), threads=1)
    except InputError as error:
        assert len(str(error).encode()) > 20  # and can be printed
        return
    dataset = Dataset.open(folder / "out")
    assert len(list(dataset)) == report.rows == len(set(dataset.ids))
    assert len(calls) == report.rows + sum(report.rejected.values()) == report.rows + len(dataset.quarantine())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    (root / "set").mkdir()
    return root


@pytest.mark.parametrize("name", list(VALID))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutations_of_valid_files(folder, name, data):
    content = mutate(data.draw(st.sampled_from(VALID[name])), data.draw(PATCHES), data.draw(st.integers(1, 8)))
    fill(folder, name, content)
    survives(folder, folder / "set")
    if not name.startswith("a."):
        survives(folder, folder / "set" / name)


@pytest.mark.parametrize("name", [*VALID, "captions.csv"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: text.encode())))
def test_random_bytes(folder, name, content):
    fill(folder, name, content)
    survives(folder, folder / "set")
    survives(folder, folder / "set" / name)


def fill(folder, name: str, content: bytes) -> None:
    for old in (folder / "set").iterdir():
        old.unlink()
    for picture in ("a.png", "b.png"):
        (folder / "set" / picture).write_bytes(raw.png())
    (folder / "set" / name).write_bytes(content)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "file_name": st.one_of(
                    st.sampled_from(["a.png", "b.png", "../a.png", "/", "\0", ""]), st.text(), st.integers()
                ),
                "text": st.one_of(st.text(), st.none(), st.lists(st.one_of(st.text(), st.integers())), st.floats()),
                "id": st.one_of(st.text(), st.integers(), st.none()),
                "tags": st.recursive(st.text(), lambda inner: st.lists(inner, max_size=2), max_leaves=4),
                "x": st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
            },
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_json_objects(folder, rows):
    fill(folder, "metadata.jsonl", "\n".join(map(json.dumps, rows)).encode())
    survives(folder, folder / "set")
