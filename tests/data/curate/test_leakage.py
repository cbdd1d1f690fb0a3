"""Leaks of every kind, planted."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from diptych.cli import main
from diptych.data import Dataset, open_dataset
from diptych.data.curate.leakage import Leak, find_leaks
from diptych.data.writer import DatasetWriter
from diptych.types import EncodedImage, InputError, Sample


def pixels(seed: int, noise: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    big = np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    big += np.random.default_rng(1).integers(-noise, noise + 1, big.shape)
    return big.clip(0, 255).astype(np.uint8)


def encoded(array: np.ndarray, kind: str = "PNG") -> EncodedImage:
    data = io.BytesIO()
    Image.fromarray(array).save(data, kind)
    return EncodedImage(data=data.getvalue())


@pytest.fixture
def write(tmp_path):
    def made(name: str, samples: list[Sample]) -> Dataset:
        with DatasetWriter(tmp_path / name) as writer:
            for sample in samples:
                writer.write(sample)
        return open_dataset(tmp_path / name)

    return made


@pytest.fixture
def sets(write) -> tuple[Dataset, Dataset]:
    """Training pictures 0 to 5, and test rows that repeat some of them in different ways."""
    train = write("train", [Sample(f"train {i}", [encoded(pixels(i))], [f"A red car, no. {i}"]) for i in range(6)])
    broken = EncodedImage(data=b"\xff\xd8\xff and no more")
    test = write(
        "test",
        [
            Sample("file", [encoded(pixels(3))], ["something else"]),
            Sample("pixels", [encoded(pixels(2), "BMP")]),
            Sample("near", [encoded(pixels(1, noise=2))], ["a RED  car,no. 4"]),
            Sample("second picture", [encoded(pixels(77)), encoded(pixels(5))]),
            Sample("own", [encoded(pixels(78))], ["a red car"]),
            Sample("broken", [broken], [""]),
            Sample("none", [], ["A red car, no. 0", "A red car, no. 1"]),
        ],
    )
    return train, test


def test_each_kind_of_leak_is_found_with_its_partner(sets):
    found = find_leaks(*sets)
    assert [leak._replace(distance=0.0) for leak in found.found] == [
        Leak("same file", 0, 3),
        Leak("same pixels", 1, 2),
        Leak("near picture", 2, 1),
        Leak("same caption", 2, 4),
        Leak("same file", 3, 5),
        Leak("same caption", 6, 0),
    ]
    assert 0 < found.found[2].distance <= 2.0
    assert (found.train_rows, found.test_rows, found.unread) == (6, 7, 1)
    assert found.rows().tolist() == [0, 1, 2, 3]
    assert found.rows(("same caption",)).tolist() == [2, 6]
    assert found.counts() == {
        "same file": 2,
        "same pixels": 1,
        "near picture": 1,
        "near embedding": 0,
        "same caption": 2,
    }


def test_near_pictures_can_be_left_out_and_embeddings_added(sets):
    rng = np.random.default_rng(0)
    train = rng.standard_normal((6, 16)).astype(np.float32)
    train /= np.linalg.norm(train, axis=1, keepdims=True)
    test = np.zeros((7, 16), np.float32)
    test[[0, 2, 4]] = train[[3, 1, 0]]
    found = find_leaks(*sets, difference=None, vectors=(train, test))
    kinds = [(leak.kind, leak.test, leak.train) for leak in found.found if leak.kind != "same caption"]
    assert kinds == [
        ("same file", 0, 3),
        ("same pixels", 1, 2),
        ("near embedding", 2, 1),
        ("same file", 3, 5),
        ("near embedding", 4, 0),
    ]
    with pytest.raises(InputError, match="vectors of test: expected 7 rows"):
        find_leaks(*sets, vectors=(train, test[:3]))
    with pytest.raises(InputError, match="threshold: expected a cosine"):
        find_leaks(*sets, vectors=(train, test), threshold=0.0)


def test_sets_without_pictures_or_rows(write):
    texts = write("texts", [Sample("a", captions=["one"]), Sample("b", captions=["two"])])
    nothing = write("nothing", [])
    assert find_leaks(texts, nothing).found == find_leaks(nothing, texts).found == []
    assert find_leaks(texts, texts).counts()["same caption"] == 2
    with pytest.raises(InputError, match="difference: expected a number from 0 to 255, got -1"):
        find_leaks(texts, texts, difference=-1)


def test_the_verb_compares_embeddings_also_where_one_set_has_no_picture(write, sets, capsys):
    texts = str(write("texts", [Sample("a", captions=["one"])]).folder)
    test = str(sets[1].folder)
    for one, other in ((test, texts), (texts, test), (texts, texts)):
        assert main(["data", "leaks", one, other, "--model", "pocket"]) == 0
    assert "0 test pictures of 1" in capsys.readouterr().out


def test_the_verb_counts_shows_and_fails_where_a_picture_leaks(sets, tmp_path, capsys):
    train, test = (str(dataset.folder) for dataset in sets)
    assert main(["data", "leaks", train, test, "--png", str(tmp_path / "leaks.png")]) == 1
    said = capsys.readouterr()
    assert "4 test pictures of 7 (57.1%) are among the 6 training rows" in said.out
    assert "second picture" in said.out and "1 picture could not be read" in said.err
    with Image.open(tmp_path / "leaks.png") as sheet:
        assert sheet.width > 1000
    assert main(["data", "leaks", train, test, "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["leaked_pictures"] == 4 and facts["counts"]["same pixels"] == 1
    assert facts["pairs"][0] == {"kind": "same file", "test": "file", "train": "train 3", "distance": 0.0}
    assert main(["data", "leaks", train, test, "--png", str(tmp_path / "leaks.jpg")]) == 2
    assert "ends in .png" in capsys.readouterr().err


def test_the_verb_gives_0_where_only_captions_are_equal(write, capsys):
    one = write("one", [Sample("a", [encoded(pixels(1))], ["a cat"])])
    two = write("two", [Sample("b", [encoded(pixels(2))], ["A cat"])])
    assert main(["data", "leaks", str(one.folder), str(two.folder)]) == 0
    assert "same caption" in capsys.readouterr().out
