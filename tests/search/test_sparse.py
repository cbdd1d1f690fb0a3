"""Sparse vectors give what the same vectors give in full."""

import numpy as np
import pytest
import torch
from toy_encoder import COLOURS, Toy, picture

from diptych.search import FolderIndex, VectorIndex
from diptych.search.sparse import SparseVectors


def rows(count, dim, seed=0, most=9):
    """Vectors with 0 to `most` numbers that are not 0, the first and the last column among them."""
    rng = np.random.default_rng(seed)
    full = np.zeros((count, dim), np.float32)
    for row in full:
        where = rng.choice([0, dim - 1, *rng.integers(0, dim, most)], rng.integers(0, most), replace=False)
        row[where] = rng.standard_normal(len(where))
    return full


@pytest.mark.parametrize("dim", [30, 70_000])
def test_changes_equal_those_of_a_matrix(dim):
    rng = np.random.default_rng(1)
    sparse, full = SparseVectors(dim), np.empty((0, dim), np.float32)
    for step in range(12):
        new = rows(20, dim, seed=step, most=3 + step)  # wider and wider
        full = np.concatenate([full, new])
        sparse.put(np.arange(len(full) - 20, len(full)), new)
        over = rng.choice(len(full), 5, replace=False)
        full[over] = rows(5, dim, seed=100 + step)
        sparse.put(over, full[over])
        for row in rng.choice(len(full) - 7, 7, replace=False):
            full[row] = full[-1]
            full = full[:-1]
            sparse.drop(int(row))
        assert sparse.count == len(full) and np.array_equal(sparse.take(np.arange(len(full))), full)
        query = rng.standard_normal(dim).astype(np.float32)
        assert np.allclose(sparse.scores(query, np.arange(len(full))), full @ query, atol=1e-4)
        some = np.sort(rng.choice(len(full), 10, replace=False))
        best = sparse.near(query[None], 4, exact=False, kept=some)[0]
        assert set(best) == set(some[np.argsort(-(full[some] @ query))[:4]])


def test_what_is_kept_on_disk_grows_with_what_is_not_zero(tmp_path):
    full = rows(600, 5000, most=20)
    full[7] = 0
    sizes = {}
    for sparse in (False, True):
        index = VectorIndex.create(tmp_path / str(sparse), 5000, sparse=sparse)
        index.add([str(i) for i in range(600)], full)
        index.save()
        index = VectorIndex.open(tmp_path / str(sparse))
        sizes[sparse] = sum(file.stat().st_size for file in index.folder.glob("generation-*/*"))
        itself = [full[i].any() for i in range(40)]
        assert np.allclose([hits[0].score for hits in index.search(full[:40], 1, exact=True)], itself, atol=1e-5)
    assert sizes[True] < sizes[False] / 50


class Sparse(Toy):
    """A toy whose space has a hundred dimensions, of which a picture or text uses at most eight."""

    def encode_image(self, pixels):
        return torch.nn.functional.pad(super().encode_image(pixels), (0, 92))

    def encode_text(self, tokens, token_mask):
        return torch.nn.functional.pad(super().encode_text(tokens, token_mask), (0, 92))


def test_a_folder_is_indexed_as_its_model_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "p").mkdir()
    for name in COLOURS:
        picture(name).save(tmp_path / "p" / f"{name}.png")
    for model, kind in [(Toy(), "dense"), (Sparse(), "sparse")]:
        index = FolderIndex(tmp_path / "p", model)
        index.refresh()
        assert VectorIndex.open(index.at).kind == kind
        assert [index.search(name, 1)[0].id for name in COLOURS] == [f"{name}.png" for name in COLOURS]
