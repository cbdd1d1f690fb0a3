"""Whatever an annotation file holds, a reader yields rows or says in one sentence what is wrong. It does not crash."""

import copy
import json
import random
import shutil

import pytest
from fixtures_annotations import LAYOUTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diptych.data import Dataset, import_dataset
from diptych.types import InputError

ODD = [
    None,
    True,
    -1,
    0,
    3.5,
    1e400,
    float("nan"),
    10**30,
    10**400,
    "",
    "x",
    "../../x",
    "\ud800",
    "a\0b",
    [],
    {},
    [[]],
    [None],
]
PLACES = [
    (name, file)
    for name, file in (
        ("coco", "annotations/instances_val2017.json"),
        ("coco", "annotations/captions_val2017.json"),
        ("panoptic", "annotations/panoptic_val2017.json"),
        ("karpathy_coco", "dataset_coco.json"),
        *(
            ("visual_genome", f"{name}.json")
            for name in ("image_data", "objects", "attributes", "relationships", "scene_graphs", "region_descriptions")
        ),
        ("imagenet", "LOC_synset_mapping.txt"),
        ("imagenet_kaggle", "LOC_val_solution.csv"),
        ("openi", "ecgen-radiology/1.xml"),
        ("mimic", "files/p10/p10000032/s50414267.txt"),
        ("mimic", "mimic-cxr-2.0.0-split.csv"),
    )
]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    made = {}
    for name in LAYOUTS:
        made[name] = tmp_path_factory.mktemp("fuzz") / name
        LAYOUTS[name][1](made[name])
    return made


def survives(root, format) -> None:
    """An import either ends with every row accounted for, or refuses the source with a sentence."""
    out = root.parent / "out"
    try:
        report = import_dataset(f"{format}:{root}", out, threads=1)
    except InputError as error:
        assert len(str(error).encode()) > 20 and "\n" not in str(error)
        return
    dataset = Dataset.open(out)
    assert len(list(dataset)) == report.rows and sum(report.rejected.values()) == len(dataset.quarantine())


def places(value, at=()):
    """The way to every entry of nested JSON."""
    yield at
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from places(inner, (*at, key))


def changed(value, way, new):
    if not way:
        return new
    value = copy.deepcopy(value)
    inner = value
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = new
    return value


@pytest.mark.parametrize(("name", "file"), [place for place in PLACES if place[1].endswith(".json")])
def test_any_entry_may_be_of_any_type(roots, name, file):
    root, format = roots[name], LAYOUTS[name][0]
    whole = (root / file).read_bytes()
    value = json.loads(whole)
    dice = random.Random(0)
    try:
        ways = sorted(places(value), key=repr)
        for way in dice.sample(ways, min(len(ways), 40)):
            (root / file).write_text(json.dumps(changed(value, way, dice.choice(ODD))))
            survives(root, format)
    finally:
        (root / file).write_bytes(whole)


@pytest.mark.parametrize(("name", "file"), PLACES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, 10**6),
    new=st.one_of(st.binary(max_size=6), st.sampled_from([b'"', b"\n", b"\xff\xfe", b"\0", b"[", b"<", b"&", b"../"])),
    removed=st.integers(0, 12),
    end=st.integers(1, 4),
)
def test_any_bytes(roots, name, file, at, new, removed, end):
    root, format = roots[name], LAYOUTS[name][0]
    whole = (root / file).read_bytes()
    at %= len(whole) + 1
    broken = whole[:at] + new + whole[at + removed :]
    try:
        (root / file).write_bytes(broken[: len(broken) * end // 4])
        survives(root, format)
    finally:
        (root / file).write_bytes(whole)
        shutil.rmtree(root.parent / "out", ignore_errors=True)
