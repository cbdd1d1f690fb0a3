import hashlib
import subprocess
import sys

import numpy as np
import pytest

from diptych.data import import_dataset, masks, open_dataset
from diptych.data.scenes import sample as sample_module
from diptych.data.scenes.render import render
from diptych.data.scenes.sample import from_json, to_json
from diptych.data.scenes.sampling import sample_scene
from diptych.data.scenes.store import scenes
from diptych.images import decode
from diptych.types import InputError, Sample

ADDRESS = "scenes:?n=12&objects=2-7&style=mixed&noise=0.5&seed=3"


def digest(samples: list[Sample]) -> str:
    return hashlib.sha256(repr(samples).encode()).hexdigest()


@pytest.fixture(scope="module")
def dataset():
    return open_dataset(ADDRESS)


@pytest.fixture(scope="module")
def samples(dataset):
    return list(dataset)


def test_same_seed_same_bytes_in_any_order_and_in_another_process(dataset, samples):
    backwards = dataset.take(range(11, -1, -1))[::-1]
    one_by_one = [open_dataset(ADDRESS)[i] for i in range(12)]
    assert digest(samples) == digest(backwards) == digest(one_by_one)
    program = (
        "import hashlib; from diptych.data import open_dataset; "
        f"print(hashlib.sha256(repr(list(open_dataset({ADDRESS!r}))).encode()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(samples)


def test_other_seeds_and_splits_are_other_pictures(samples):
    pictures = {sample.images[0].data for sample in samples}
    for change in ("seed=4", "seed=3&split=test"):
        others = open_dataset(f"scenes:?n=12&objects=2-7&style=mixed&noise=0.5&{change}")
        assert pictures.isdisjoint(sample.images[0].data for sample in others)
        assert {sample.id for sample in samples}.isdisjoint(others.ids)


def test_masks_boxes_depths_and_attributes_agree_with_the_scene(samples, dataset):
    for i, sample in enumerate(samples):
        scene = from_json(sample.texts["scene"])
        assert scene == sample_scene(dataset._store.dials, i)
        drawn = render(scene, 96)
        assert np.array_equal(np.asarray(decode(sample.images[0].data)), drawn.image)
        assert len(sample.objects) == len(scene.things)
        ids = np.full((96, 96), -1)
        for k, (thing, object) in enumerate(zip(scene.things, sample.objects)):
            inside = masks.decode(object.mask)
            assert (ids[inside] == -1).all()
            ids[inside] = k
            rows, columns = np.nonzero(inside)
            assert object.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert object.depth == drawn.depth[inside].min()
            assert (object.name, object.attributes) == (thing.shape, [thing.size, thing.color, thing.material])
        assert np.array_equal(ids, drawn.ids)


def test_regions_carry_the_box_of_their_object(samples):
    regions = [(region, sample) for sample in samples for region in sample.regions]
    assert len(regions) > 10
    assert all(region.box == sample.objects[region.object].box for region, sample in regions)


def test_provenance(samples):
    assert {(s.source, s.license, s.split) for s in samples} == {("scenes", "CC0-1.0", "train")}
    assert len({s.id for s in samples}) == 12
    assert {s.scores["noisy"] for s in samples} == {0.0, 1.0}
    assert open_dataset("scenes:?n=1")[0].scores == {}


def test_only_what_is_asked_for_is_drawn(dataset, samples, monkeypatch):
    def refuse(*args):
        raise AssertionError("drawn")

    monkeypatch.setattr(sample_module, "render_many", refuse)
    told = dataset.take([1, 0], ["captions", "questions", "texts"])
    assert [s.captions for s in told] == [samples[1].captions, samples[0].captions]
    assert [s.texts for s in told] == [samples[1].texts, samples[0].texts]
    monkeypatch.setattr(sample_module, "sample_scene", refuse)
    assert dataset.ids == [s.id for s in samples]
    assert set(dataset.column("split")) == {"train"}


def test_a_table_holds_what_samples_hold(dataset, samples):
    table = dataset.select([4, 2]).table(fields=["captions", "objects"])
    assert table.column_names == ["id", "captions", "objects"]
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == [samples[4].id, samples[2].id]
    assert rows[1]["captions"] == samples[2].captions
    assert [tuple(o["box"]) for o in rows[0]["objects"]] == [o.box for o in samples[4].objects]


def test_an_import_writes_the_same_samples_to_disk(dataset, samples, tmp_path):
    report = import_dataset(ADDRESS, tmp_path / "set")
    assert (report.rows, report.rejected, report.format) == (12, {}, "scenes")
    assert list(open_dataset(tmp_path / "set")) == samples


def test_the_address_says_all_that_was_changed(dataset):
    assert open_dataset("scenes:").address == "scenes:"
    for address in (ADDRESS, "scenes:?held_out=yellow+cone%2Cblue+cube&jitter=false&split=val"):
        opened = open_dataset(address)
        again = open_dataset(opened.address)
        assert again.address == opened.address
        assert again.fingerprint() == opened.fingerprint() != open_dataset("scenes:").fingerprint()
    assert scenes(dataset._store.dials).fingerprint() == dataset.fingerprint()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("scenes:somewhere?n=3", "scenes:somewhere: expected nothing but options"),
        ("scenes:?colour=red", "no option 'colour'"),
        ("scenes:?n=3&n=4", "given twice"),
        ("scenes:?objects=none", "objects: expected"),
    ],
)
def test_bad_addresses_are_one_sentence(address, says):
    with pytest.raises(InputError, match=says):
        open_dataset(address)


def test_scenes_are_read_back_and_bad_ones_are_told():
    scene = sample_scene(scenes_of_three().dials, 1)
    assert from_json(to_json(scene)) == scene
    for text, says in (("{", "JSON"), ("[]", "scene: "), ('{"things": 3}', "scene: things"), ("{}", "scene: things")):
        with pytest.raises(InputError, match=says):
            from_json(text)


def scenes_of_three():
    return open_dataset("scenes:?n=3")._store


@pytest.mark.parametrize(("task", "pictures"), [("pairs", 2), ("episodes", 3), ("robot", 2)])
def test_tasks_of_several_scenes_bring_their_pictures(task, pictures):
    for i, sample in enumerate(open_dataset(f"scenes:?n=4&task={task}")):
        assert len(sample.images) >= pictures
        assert sample.source == "scenes" and sample.license == "CC0-1.0"
        text = sample.texts["scenes"]
        assert text.count('"camera"') == len(sample.images)
        assert sample.id.endswith(f"-{i}")


def test_a_small_picture_has_all_things():
    for sample in open_dataset("scenes:?n=20&size=32"):
        assert all(object.box is not None and object.depth is not None for object in sample.objects)
