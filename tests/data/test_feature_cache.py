"""Features on disk: exact, found by id, safe against a kill."""

import os

import numpy as np
import pytest

from diptych.data import cache
from diptych.data.cache import FeatureCache, cache_dir
from diptych.types import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))


def vectors(count: int, width: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def test_vectors_come_back_bit_equal():
    rows = vectors(3)
    own = FeatureCache("tower-a")
    assert len(own) == 0 and own.width == 0
    found, values = own.get(["x"])
    assert found.tolist() == [False] and values.shape == (1, 0)
    own.put(["a", "b", "ü"], rows)
    for store in (own, FeatureCache("tower-a")):  # now and in a later run
        found, values = store.get(["ü", "nothing", "a", "a"])
        assert found.tolist() == [True, False, True, True] and values.dtype == np.float32
        assert np.array_equal(values, np.stack([rows[2], np.zeros(4, np.float32), rows[0], rows[0]]))
    assert len(FeatureCache("tower-b")) == 0
    assert cache_dir() in own.folder.parents


def test_puts_add_up_and_small_files_are_joined(monkeypatch):
    monkeypatch.setattr(cache, "SEGMENTS", 5)
    rows = vectors(40)
    own = FeatureCache("k")
    for i in range(0, 40, 2):
        own.put([str(i), str(i + 1)], rows[i : i + 2])
    assert len(list(own.folder.iterdir())) == 20
    again = FeatureCache("k")
    assert len(list(own.folder.iterdir())) == 1
    for store in (own, again, FeatureCache("k")):
        found, values = store.get([str(i) for i in range(40)])
        assert found.all() and np.array_equal(values, rows)


def test_damage_costs_only_its_own_file(caplog):
    own = FeatureCache("k")
    own.put(["a"], vectors(1))
    own.put(["b"], vectors(1, seed=1))
    (own.folder / "half.part").write_bytes(b"killed while writing")
    for file in own.folder.glob("*.arrow"):
        if "b" in FeatureCache("one", own.folder)._where:
            os.truncate(file, file.stat().st_size // 2)
            break
    (own.folder / "junk.arrow").write_bytes(b"junk")
    left = FeatureCache("k")
    assert len(left) == 1 and caplog.text.count("features left out") == 2
    left.put(["a", "b"], vectors(2))
    assert FeatureCache("k").get(["a", "b"])[0].all()


def test_shapes_are_checked():
    own = FeatureCache("k")
    own.put([], vectors(0))
    assert not own.folder.exists()
    own.put(["a"], vectors(1))
    for ids, rows in ((["b"], vectors(2)), (["b"], vectors(1, 5)), (["b"], np.zeros(4))):
        with pytest.raises(InputError, match="expected vectors of shape 1 4"):
            own.put(ids, rows)
    own.put(["b"], np.ones((1, 4), np.float64))
    assert own.get(["b"])[1].tolist() == [[1, 1, 1, 1]]


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("DIPTYCH_CACHE", "~/here")
    assert cache_dir().name == "here" and "~" not in str(cache_dir())
    monkeypatch.delenv("DIPTYCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "diptych"
