"""The index against brute force, through changes, files, threads and kills."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from diptych.search import VectorIndex, dense
from diptych.types import InputError

DIM = 16


def vectors(count, seed=0, dim=DIM, centres=20):
    """Unit vectors around some centres, as embeddings are."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((centres, dim))[rng.integers(0, centres, count)]
    rows = (centre + 0.6 * rng.standard_normal((count, dim))).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def names(count, start=0):
    return [f"v{i}" for i in range(start, start + count)]


def brute(contents, query, k):
    """Ids of the k nearest in a dict of id -> unit vector."""
    ids = list(contents)
    scores = np.stack(list(contents.values())) @ query
    return [ids[i] for i in np.argsort(-scores)[:k]]


def ids(hits):
    return [hit.id for hit in hits]


@pytest.fixture(params=["scan", "graph", "sparse"])
def kind(request, monkeypatch):
    """Small indexes are scanned; the same with a graph from the first row on; and with sparse vectors."""
    if request.param == "graph":
        monkeypatch.setattr(dense, "SCAN_UP_TO", 0)
    return request.param


def create(folder, dim=DIM, kind="", **options):
    return VectorIndex.create(folder, dim, sparse=kind == "sparse", **options)


# ---------------------------------------------------------------- answers


def test_exact_equals_brute_force(tmp_path, kind):
    rows, queries = vectors(700), vectors(40, seed=1)
    index = create(tmp_path, kind=kind)
    index.add(names(700), rows)
    for query, hits in zip(queries, index.search(queries, 10, exact=True)):
        scores = rows @ query
        best = np.argsort(-scores)[:10]
        assert ids(hits) == [f"v{i}" for i in best]
        assert np.allclose([hit.score for hit in hits], scores[best], atol=1e-6)


def test_the_graph_finds_nearly_all(tmp_path, kind):
    rows, queries = vectors(2000), vectors(100, seed=1)
    index = create(tmp_path, kind=kind)
    index.add(names(2000), rows)
    assert (getattr(index._vectors, "_graph", None) is not None) == (kind == "graph")
    found = index.search(queries, 10)
    true = [brute(dict(zip(names(2000), rows)), query, 10) for query in queries]
    recall = np.mean([len(set(ids(hits)) & set(best)) / 10 for hits, best in zip(found, true)])
    assert recall >= 0.95 if kind == "graph" else recall == 1
    one = index.search(queries[0], 10)
    assert len(one) == 1 and ids(one[0]) == ids(found[0]), "one query may come as a plain vector"


def test_cosine_ignores_lengths_and_inner_does_not(tmp_path, kind):
    rows = np.array([[3, 0], [0.1, 0.1], [0, 1]], np.float32)
    cosine, inner = create(tmp_path / "c", 2, kind), create(tmp_path / "i", 2, kind, metric="inner")
    for index in (cosine, inner):
        index.add(["a", "b", "c"], rows)
    assert ids(cosine.search([2, 2], 3)[0])[0] == "b" and np.isclose(cosine.search([2, 2], 1)[0][0].score, 1)
    assert ids(inner.search([2, 2], 3)[0]) == ["a", "c", "b"] and np.isclose(inner.search([2, 2], 1)[0][0].score, 6)
    cosine.add(["zero"], [[0, 0]])
    assert [hit.score for hit in cosine.search([1, 0], 9)[0] if hit.id == "zero"] == [0]


def test_more_neighbours_than_rows_and_no_rows(tmp_path, kind):
    index = create(tmp_path, kind=kind)
    assert index.search(vectors(2), 5) == [[], []] and len(index) == 0
    assert index.search(np.empty((0, DIM)), 5) == []
    index.add([], np.empty((0, DIM)))
    index.add(names(3), vectors(3))
    assert [sorted(ids(hits)) for hits in index.search(vectors(2), 50)] == [names(3)] * 2
    index.delete(names(3))
    assert index.search(vectors(1), 5) == [[]] and index.search(vectors(1), 5, where={"id": "v1"}) == [[]]


def test_equal_vectors_are_all_found(tmp_path, kind):
    index = create(tmp_path, kind=kind)
    index.add(names(30), np.repeat(vectors(1), 30, axis=0))
    assert ids(index.search(vectors(1), 30)[0]) == names(30), "equal scores in the order they were added"


@pytest.mark.parametrize(
    "where", [{"half": "a"}, {"number": {"<": 30}}, {"number": [5, 7, 9]}, lambda f: f["number"] > 390]
)
def test_filters_give_the_best_of_what_is_left(tmp_path, kind, where):
    rows, queries = vectors(400), vectors(20, seed=3)
    fields = [{"number": i, "half": "ab"[i % 2]} for i in range(400)]
    index = create(tmp_path, kind=kind)
    index.add(names(400), rows, fields)
    if callable(where):
        left = [i for i in range(400) if where(fields[i])]
    else:
        left = [i for i in range(400) if i in index._rows.select(where)]
    contents = {f"v{i}": rows[i] for i in left}
    exact = index.search(queries, 7, exact=True, where=where)
    near = index.search(queries, 7, where=where)
    for query, one, other in zip(queries, exact, near):
        best = brute(contents, query, 7)
        assert ids(one) == best
        assert len(other) == len(best) and set(ids(other)) <= set(contents)
        assert all(hit.fields == fields[int(hit.id[1:])] for hit in other)
    agreed = np.mean([len(set(ids(one)) & set(ids(other))) / len(one) for one, other in zip(exact, near)])
    assert agreed >= 0.95


def test_wrong_calls_get_a_sentence_and_change_nothing(tmp_path, kind):
    index = create(tmp_path, kind=kind)
    index.add(names(3), vectors(3), [{"n": 1}] * 3)
    bad = vectors(2, seed=5)
    bad[1, 3] = np.nan
    for given, error in [
        ((["x", "y"], bad), "vector 1 has NaN"),
        ((["x", "y"], vectors(2, dim=DIM + 1)), f"expected N x {DIM}, got 2 x {DIM + 1}"),
        ((["x"], vectors(2)), "one for each of 1 ids, got 2"),
        ((["x", "x"], vectors(2)), "'x' twice"),
        ((["x", "v1"], vectors(2), [{"n": 2}, {"n": "two"}]), "expected a number as in other rows"),
    ]:
        with pytest.raises(InputError, match=error):
            index.add(*given)
    for query in (bad, vectors(1, dim=3), np.zeros((2, 2, DIM))):
        with pytest.raises(InputError, match="vectors: "):
            index.search(query)
    with pytest.raises(InputError, match="k: expected at least 1"):
        index.search(vectors(1), 0)
    with pytest.raises(InputError, match="a list of ids"):
        index.delete("v1")
    with pytest.raises(InputError, match="no row has the id 'x'"):
        index.vectors(["v1", "x"])
    assert index.items() == {id: {"n": 1} for id in names(3)}
    assert np.allclose(index.vectors(names(3)), vectors(3), atol=1e-6)


# ---------------------------------------------------------------- changes


def test_many_changes_equal_a_dict(tmp_path, kind):
    rng = np.random.default_rng(0)
    pool = vectors(4000, seed=2)
    index, contents = create(tmp_path, kind=kind), {}
    for step in range(30):
        some = [f"v{i}" for i in rng.choice(600, rng.integers(1, 150), replace=False)]
        if step % 3 == 2:
            assert index.delete([*some, "never there"]) == len([id for id in some if id in contents])
            for id in some:
                contents.pop(id, None)
        else:
            rows = pool[rng.integers(0, len(pool), len(some))]
            index.add(some, rows, [{"step": step}] * len(some))
            contents.update(zip(some, rows))
        if step % 7 == 6:
            index.save()
            index = VectorIndex.open(tmp_path)
        assert len(index) == len(contents) and set(index.items()) == set(contents)
        queries = vectors(5, seed=step)
        for query, exact, near in zip(queries, index.search(queries, 5, exact=True), index.search(queries, 5)):
            scores = sorted((float(row @ query) for row in contents.values()), reverse=True)[:5]
            assert np.allclose([hit.score for hit in exact], scores, atol=1e-5)
            assert all(np.isclose(hit.score, contents[hit.id] @ query, atol=1e-5) for hit in near)
    everything = list(contents)
    found = index.search(index.vectors(everything), 1)
    right = [np.isclose(hits[0].score, 1, atol=1e-4) for hits in found]
    assert np.mean(right) >= 0.99, "each vector finds itself (or its equal)"


def test_an_id_that_comes_again_is_replaced(tmp_path, kind):
    index = create(tmp_path, kind=kind)
    index.add(names(50), vectors(50), [{"n": i} for i in range(50)])
    new = vectors(1, seed=9)
    index.add(["v7"], new, [{"m": "x"}])
    assert len(index) == 50 and index.items()["v7"] == {"m": "x"}
    assert ids(index.search(new, 1)[0]) == ["v7"] and "v7" in index and "v99" not in index


def test_a_graph_full_of_removed_nodes_is_built_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(dense, "SCAN_UP_TO", 0)
    index = VectorIndex.create(tmp_path, DIM)
    rows = vectors(1500)
    index.add(names(1500), rows)
    index.delete(names(1400))
    index.save()
    assert index._vectors._nodes == len(index._vectors._graph) == 100
    again = VectorIndex.open(tmp_path)
    left = dict(zip(names(100, 1400), rows[1400:]))
    for query, hits in zip(rows[:20], again.search(rows[:20], 5)):
        assert ids(hits) == brute(left, query, 5)


# ---------------------------------------------------------------- files


def test_what_was_saved_is_opened(tmp_path, kind):
    index = create(tmp_path / "deep" / "x", kind=kind, metric="inner", meta={"model": "pocket"})
    index.add(names(300), vectors(300), [{"n": i, "f": i / 2, "t": f"\N{SNOWMAN}{i}"} for i in range(300)])
    assert not VectorIndex.exists(index.folder)
    index.save()
    again = VectorIndex.open(index.folder)
    assert (len(again), again.dim, again.metric, again.meta) == (300, DIM, "inner", {"model": "pocket"})
    assert again.items() == index.items()
    assert again.search(vectors(9, seed=1), 5) == index.search(vectors(9, seed=1), 5)
    files = {path.name for path in index.folder.glob("generation-*/*")}
    expected = {
        "scan": {"vectors.npy"},
        "graph": {"vectors.npy", "graph.usearch", "nodes.npy"},
        "sparse": {"columns.npy", "values.npy"},
    }
    assert files == expected[kind] | {"rows.parquet"}


def test_an_opened_index_is_changed_in_memory_until_it_is_saved(tmp_path, kind):
    index = create(tmp_path, kind=kind)
    index.add(names(10), vectors(10))
    index.save()
    one, other = VectorIndex.open(tmp_path), VectorIndex.open(tmp_path)
    one.delete(["v0"])
    one.add(["v1"], vectors(1, seed=8))
    assert len(VectorIndex.open(tmp_path)) == 10
    one.save()
    assert len(other) == 10 and ids(other.search(vectors(1), 1)[0]) == ["v0"], "who has it open is not disturbed"
    assert set(VectorIndex.open(tmp_path).items()) == set(names(9, 1))
    assert len(list(tmp_path.glob("generation-*"))) == 1


def test_an_empty_index_and_an_unchanged_one(tmp_path):
    index = VectorIndex.create(tmp_path, DIM)
    index.save()
    assert len(VectorIndex.open(tmp_path)) == 0
    before = (tmp_path / "index.json").stat().st_mtime_ns
    VectorIndex.open(tmp_path).save()
    assert (tmp_path / "index.json").stat().st_mtime_ns == before, "nothing changed, nothing written"


def test_what_is_no_index_gets_a_sentence(tmp_path):
    with pytest.raises(InputError, match="expected a saved index"):
        VectorIndex.open(tmp_path)
    with pytest.raises(InputError, match="dim >= 1"):
        VectorIndex.create(tmp_path, 0)
    index = VectorIndex.create(tmp_path, DIM)
    index.add(names(5), vectors(5))
    index.save()
    with pytest.raises(InputError, match="holds an index"):
        VectorIndex.create(tmp_path, DIM)
    manifest = tmp_path / "index.json"
    text = manifest.read_text()
    for damage, message in [
        (text.replace('"format": 1', '"format": 9'), "format 1, got 9"),
        (text[:40], "cannot be read"),
        (json.dumps({**json.loads(text), "rows": 4}), "expected 4 rows"),
        (json.dumps({**json.loads(text), "generation": "gone"}), "is missing"),
    ]:
        manifest.write_text(damage)
        with pytest.raises(InputError, match=message):
            VectorIndex.open(tmp_path)
    manifest.write_text(text)
    rows = next(tmp_path.glob("generation-*")) / "rows.parquet"
    rows.write_bytes(rows.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read"):
        VectorIndex.open(tmp_path)


# ---------------------------------------------------------------- threads and kills


def test_nothing_is_lost_while_others_add_delete_save_and_search(tmp_path, kind):
    index = create(tmp_path, kind=kind)
    fixed = vectors(300)
    index.add(names(300), fixed)
    errors: list[BaseException] = []
    stop = threading.Event()

    def guarded(work):
        def run():
            try:
                work()
            except BaseException as error:
                errors.append(error)
                stop.set()

        return threading.Thread(target=run)

    def write(number):
        def work():
            rng = np.random.default_rng(number)
            for round in range(12):
                mine = [f"w{number}-{round}-{i}" for i in range(40)]
                index.add(mine, vectors(40, seed=100 * number + round), [{"writer": number}] * 40)
                assert index.delete(mine[:25]) == 25
                again = mine[30:35]
                index.add(again, vectors(5, seed=rng.integers(1 << 30)), [{"writer": number}] * 5)
                if round % 4 == number:
                    index.save()

        return work

    def search(number):
        def work():
            rng = np.random.default_rng(50 + number)
            while not stop.is_set():
                some = rng.integers(0, 300, 8)
                for row, hits in zip(some, index.search(fixed[some], 3, exact=bool(number % 2))):
                    assert len(hits) == 3 and f"v{row}" in ids(hits), "a row that nobody deletes is always found"
                hits = index.search(fixed[:1], 20, where={"id": names(5)})[0]
                assert sorted(ids(hits)) == names(5)

        return work

    writers = [guarded(write(i)) for i in range(3)]
    readers = [guarded(search(i)) for i in range(3)]
    for thread in writers + readers:
        thread.start()
    for thread in writers:
        thread.join(60)
    stop.set()
    for thread in readers:
        thread.join(60)
    assert not errors, errors[0]
    expected = {f"w{n}-{r}-{i}" for n in range(3) for r in range(12) for i in range(25, 40)} | set(names(300))
    assert set(index.items()) == expected
    index.save()
    again = VectorIndex.open(tmp_path)
    found = again.search(again.vectors(sorted(expected)), 3)
    assert np.mean([id in ids(hits) for id, hits in zip(sorted(expected), found)]) >= 0.99


BUILDER = """
import sys
import numpy as np
from diptych.search import VectorIndex, dense
dense.SCAN_UP_TO = 0
folder = sys.argv[1]
index = VectorIndex.open(folder) if VectorIndex.exists(folder) else VectorIndex.create(folder, 16)
print("open", len(index), flush=True)
for step in range(len(index) // 50, 10_000):
    rows = np.stack([np.random.default_rng(50 * step + i).standard_normal(16, dtype=np.float32) for i in range(50)])
    index.add([f"{50 * step + i}" for i in range(50)], rows, [{"step": step}] * 50)
    index.save()
    print("saved", len(index), flush=True)
"""


def test_a_killed_build_goes_on_where_it_was(tmp_path):
    saved = 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for round, wait in enumerate([0.004, 0.021]):
        with subprocess.Popen(
            [sys.executable, "-c", BUILDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            opened = int(process.stdout.readline().split()[1])
            assert opened >= saved and opened % 50 == 0, "at least what was said to be saved is there"
            for _ in range(3 + round):
                saved = int(process.stdout.readline().split()[1])
            time.sleep(wait)  # the kill falls somewhere within adding or saving
            process.send_signal(signal.SIGKILL)
        index = VectorIndex.open(tmp_path)
        assert len(index) >= saved and len(index) % 50 == 0
        assert set(index.items()) == {str(i) for i in range(len(index))}
        last = str(len(index) - 1)
        expected = np.random.default_rng(len(index) - 1).standard_normal(16, dtype=np.float32)
        assert np.allclose(index.vectors([last])[0], expected / np.linalg.norm(expected), atol=1e-6)
        assert index.search(expected, 1)[0][0].id == last
    index.add(["new"], np.ones((1, 16)))
    index.save()
    assert len(list(Path(tmp_path).glob("generation-*"))) == 1, "what the killed ones left is swept"
