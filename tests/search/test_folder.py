"""A folder of pictures: indexed once, then only what is new, changed or gone."""

import os
import time

import pytest
from toy_encoder import COLOURS, Toy, picture

from diptych.search import FolderIndex, Refresh, VectorIndex, build, build_index, search_folder
from diptych.search.build import model_fingerprint
from diptych.search.folder import list_pictures
from diptych.types import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """Two colours at the top, two below, a text, and hidden things."""
    home = tmp_path / "Pictures"
    for place, colour in [("", "red"), ("", "green"), ("deep/er", "blue"), (".hidden", "white"), ("deep", "black")]:
        (home / place).mkdir(parents=True, exist_ok=True)
        picture(colour).save(home / place / f"{colour}.png")
    (home / "notes.txt").write_text("no picture")
    (home / ".red2.png").write_bytes((home / "red.png").read_bytes())
    return home


def put(path, colour):
    """Write a picture with a time of its own, as a later change has."""
    picture(colour).save(path)
    put.clock += 1_000_000_000
    os.utime(path, ns=(put.clock, put.clock))


put.clock = time.time_ns()
IDS = ["deep/black.png", "deep/er/blue.png", "green.png", "red.png"]


def test_first_use_indexes_and_the_next_does_nothing(folder):
    index = FolderIndex(folder, Toy())
    assert len(index) == 0 and index.search("red") == []
    assert index.refresh() == Refresh(4, 0, 0, 0, {})
    hits = index.search("something blue", 2)
    assert hits[0].id == "deep/er/blue.png" and len(hits) == 2
    assert hits[0].fields["path"] == str(folder / "deep" / "er" / "blue.png") and hits[0].fields["folder"] == "deep/er"
    model = Toy()
    again = FolderIndex(folder, model)
    assert again.refresh() == Refresh(0, 0, 0, 4, {}) and model.processor.decoded == 0
    assert [hit.id for hit in again.search(picture("green"), 1)] == ["green.png"]
    assert again.search(folder / "red.png", 1)[0].id == "red.png", "a path is a picture, a str is a text"
    assert [hit.id for hit in again.search("red", where={"folder": "deep"})] == ["deep/black.png"]


def test_new_changed_and_gone_pictures(folder):
    FolderIndex(folder, Toy()).refresh()
    put(folder / "new.png", "white")
    put(folder / "green.png", "black")
    (folder / "red.png").unlink()
    model = Toy()
    index = FolderIndex(folder, model)
    assert index.refresh() == Refresh(1, 1, 1, 2, {}) and model.processor.decoded == 2
    assert sorted(hit.id for hit in index.search("black", 2)) == ["deep/black.png", "green.png"]
    assert {hit.id for hit in index.search("red", 9)} == {"deep/black.png", "deep/er/blue.png", "green.png", "new.png"}
    assert search_folder(folder, "white", Toy(), 1)[0].id == "new.png"


def test_bad_pictures_are_counted_and_left_alone_until_they_change(folder):
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "red.png").read_bytes()[:50])
    (folder / "page.jpeg").write_text("<html>not found</html>")
    expected = {"image empty": 1, "image truncated": 1, "image not recognised": 1}
    index = FolderIndex(folder, Toy())
    assert index.refresh() == Refresh(4, 0, 0, 0, expected)
    assert {bad.id for bad in index.rejected} == {"empty.jpg", "cut.png", "page.jpeg"}
    model = Toy()
    again = FolderIndex(folder, model)
    assert again.refresh() == Refresh(0, 0, 0, 4, expected) and model.processor.decoded == 0
    put(folder / "cut.png", "red")
    (folder / "page.jpeg").unlink()
    assert again.refresh() == Refresh(1, 0, 0, 4, {"image empty": 1})


def test_a_picture_that_becomes_unreadable_is_not_found_any_more(folder):
    index = FolderIndex(folder, Toy())
    index.refresh()
    (folder / "red.png").write_bytes(b"overwritten")
    assert index.refresh() == Refresh(0, 0, 1, 3, {"image not recognised": 1})
    assert {hit.id for hit in index.search("red", 9)} == set(IDS) - {"red.png"}
    put(folder / "red.png", "red")
    assert index.refresh() == Refresh(1, 0, 0, 3, {})
    assert index.search("red", 1)[0].id == "red.png"


def test_an_interrupted_first_use_keeps_what_was_done(folder, monkeypatch):
    monkeypatch.setattr(build, "_SAVE_EVERY", 4)
    for i in range(20):
        picture(list(COLOURS)[i % 5], noise=30, seed=i).save(folder / f"more{i:02d}.png")
    model = Toy()

    def interrupt(done, total):
        assert total == 24
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FolderIndex(folder, model).refresh(batch_size=2, progress=interrupt)
    kept = FolderIndex(folder, Toy())
    assert len(kept) == 10
    assert kept.refresh() == Refresh(14, 0, 0, 10, {})


def test_a_first_use_that_dies_keeps_what_was_saved(folder, monkeypatch):
    """Nothing runs after a kill: the same as if the next save never happened."""
    monkeypatch.setattr(build, "_SAVE_EVERY", 2)
    monkeypatch.setattr(build, "_WORK_PER_SAVE", 0)
    saves, real = [], VectorIndex.save

    def save(index):
        if saves:
            raise SystemError("killed")
        saves.append(len(index))
        real(index)

    monkeypatch.setattr(VectorIndex, "save", save)
    with pytest.raises(SystemError):
        FolderIndex(folder, Toy()).refresh(batch_size=1)
    monkeypatch.setattr(VectorIndex, "save", real)
    index = FolderIndex(folder, Toy())
    assert saves == [2] and len(index) == 2
    assert index.refresh() == Refresh(2, 0, 0, 2, {})


def test_links_are_followed_and_loops_end(folder, tmp_path):
    (folder / "deep" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "broken.png").symlink_to(tmp_path / "nowhere.png")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    picture("white").save(elsewhere / "white.png")
    (folder / "other").symlink_to(elsewhere, target_is_directory=True)
    (folder / "alias.png").symlink_to(folder / "red.png")
    assert list(list_pictures(folder)) == ["alias.png", *IDS[:3], "other/white.png", "red.png"]
    assert FolderIndex(folder, Toy()).refresh() == Refresh(6, 0, 0, 0, {})


def test_names_of_any_kind(folder):
    odd = [b"caf\xe9.png", "\N{SNOWMAN} a b.PNG".encode(), b"no_suffix", b"-.png"]
    for name in odd:
        (folder / os.fsdecode(name)).write_bytes((folder / "red.png").read_bytes())
    (folder / "README").write_text("no suffix and no picture")
    index = FolderIndex(folder, Toy())
    assert index.refresh().added == 8
    hits = index.search("red", 5)
    assert {os.fsencode(hit.fields["path"]).rpartition(b"/")[2] for hit in hits} == {*odd, b"red.png"}
    assert "caf\\xe9.png" in {hit.id for hit in hits}
    assert FolderIndex(folder, Toy()).refresh().unchanged == 8


def test_another_model_has_its_own_index(folder, tmp_path):
    first, other = FolderIndex(folder, Toy()), FolderIndex(folder, Toy(seed=1))
    first.refresh()
    assert first.at != other.at and len(other) == 0
    assert other.refresh() == Refresh(4, 0, 0, 0, {})
    with pytest.raises(InputError, match="another folder or model"):
        FolderIndex(folder, Toy(seed=1), at=first.at)
    assert len(FolderIndex(folder, Toy(), at=tmp_path / "here")) == 0
    with pytest.raises(InputError, match="expected a folder"):
        FolderIndex(folder / "red.png", Toy())


def test_a_fingerprint_is_of_weights_and_not_of_how_they_lie():
    import torch

    model = Toy()
    before = model_fingerprint(model)
    model.to(memory_format=torch.channels_last)
    model.train()
    assert model_fingerprint(model) == before == model_fingerprint(Toy())
    with torch.no_grad():
        model.tower.bias[0] += 1e-3
    assert model_fingerprint(model) != before


def test_progress_counts_what_is_new(folder):
    seen = []
    index = FolderIndex(folder, Toy())
    index.refresh(batch_size=3, progress=lambda *at: seen.append(at))
    assert seen == [(3, 4), (4, 4)]
    index.refresh(progress=lambda *at: seen.append(at))
    assert len(seen) == 2


def test_an_empty_folder(tmp_path):
    (tmp_path / "nothing").mkdir()
    index = FolderIndex(tmp_path / "nothing", Toy())
    assert index.refresh() == Refresh(0, 0, 0, 0, {}) and index.search("red") == []
    put(tmp_path / "nothing" / "a.png", "red")
    assert index.refresh().added == 1


# ---------------------------------------------------------------- an index of a dataset


def test_an_index_of_a_dataset_goes_on_where_it_was(tmp_path, monkeypatch):
    from test_embed import dataset

    monkeypatch.setattr(build, "_SAVE_EVERY", 2)
    names = list(COLOURS)
    data = dataset(tmp_path / "d", [(name, picture(name)) for name in names] + [("bad", b"?")])

    def interrupt(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(Toy(), data, tmp_path / "i", batch_size=2, progress=interrupt)
    built = build_index(Toy(), data, tmp_path / "i")
    assert (built.added, built.present, [bad.id for bad in built.rejected]) == (1, 4, ["bad"])
    assert set(VectorIndex.open(tmp_path / "i").items()) == set(names)
    assert built.index.items()["red"] == {"caption": "a caption"}
    with pytest.raises(InputError, match="another model"):
        build_index(Toy(seed=1), data, tmp_path / "i")
    with pytest.raises(InputError, match="other pictures"):
        build_index(Toy(), data.select([0, 1]), tmp_path / "i")


def test_an_index_of_a_list_of_pictures(tmp_path):
    built = build_index(Toy(), [picture("red"), picture("blue"), b""], tmp_path / "i")
    assert set(built.index.items()) == {"0", "1"} and built.rejected[0].reason == "image empty"
    assert build_index(Toy(), [b""], tmp_path / "j").index is None
