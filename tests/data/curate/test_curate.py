"""Curation: captions, duplicates, caps, and the plan that runs them."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from diptych.data import open_dataset
from diptych.data.curate import Plan, curate, read_plan, run_plan
from diptych.data.curate.captions import clean_tags, find_boilerplate, rewrite_captions
from diptych.data.curate.duplicates import find_duplicates, picture_hash
from diptych.data.curate.limits import cap
from diptych.data.curate.words import file_name_words, folder_words, join_phrases, words
from diptych.data.writer import DatasetWriter
from diptych.types import EncodedImage, InputError, Sample


def row(id: str, *captions: str, tags: list[str] | None = None, creator: str | None = None) -> Sample:
    return Sample(id=id, captions=list(captions), tags=tags or [], creator=creator, texts={"path": id})


def test_words_split_names_and_drop_digits():
    assert words("redCar_02-small") == ["red", "car", "small"]
    assert words("Füße&Hände.3") == ["füße", "hände"]


@pytest.mark.parametrize(
    ("path", "creator", "expected"),
    [
        ("people/team_sketch_erich_schube_02.webp", "Erich Schubert", "team sketch"),
        ("office/envelop_rikva_01.webp", "Rikva", "envelop"),
        ("a/IMG_0042.JPG", None, ""),
        ("a/DSCN1234.jpg", None, ""),
        ("deadbeef01.png", None, ""),
        ("animals/ant.png", "Ann T. Smith", "ant"),
    ],
)
def test_file_names_lose_their_author_and_camera(path, creator, expected):
    assert " ".join(file_name_words(path, creator)) == expected


def test_folder_words_come_innermost_first():
    assert folder_words("animals/bugs_and_spiders/ant.png") == ["bugs and spiders", "animals"]


def test_joined_phrases_add_something_each():
    assert join_phrases(["red arrow", "arrows", "shape", "red"]) == "red arrow, shape"


def test_boilerplate_is_what_many_pictures_share():
    texts = ["stamp"] * 4 + ["a cat", "Art by X - dog", "Art by X - cow", "Art by X - hen", "Art by X - pig"]
    frequent, beginnings = find_boilerplate(texts, most_repeats=3)
    assert frequent == {"stamp"}
    assert beginnings == {"Art by X - "}


def test_boilerplate_captions_become_the_file_name_with_context():
    rows = [row(f"icons/flat/disk_{i}.png", "My icon theme", tags=["computer"]) for i in range(4)]
    rows.append(row("animals/hund.png", "a dog"))
    sentence = "A brown dog runs over wet grass, tongue out."
    rows.append(row("photos/img_1.jpg", sentence))
    kept, report = rewrite_captions(rows, most_repeats=3, context=True)
    assert kept[0].captions == ["disk, computer, flat, icons"]
    assert kept[4].captions == ["a dog, hund, animals"]
    assert kept[5].captions == [sentence]  # a sentence stays as it is
    assert [change.id for change in report.changes] == [r.id for r in rows[:5]]
    plain, _ = rewrite_captions(rows, most_repeats=3, context=False)
    assert plain[0].captions == ["disk"]


def test_junk_tags_go_and_words_stay():
    kept, report = clean_tags(
        [row("a", tags=["hash", "0x93a3a4c", "Dog", "dog", "x", "united_nations", "facade"])], ["hash"]
    )
    assert kept[0].tags == ["dog", "united nations", "facade"]
    assert report.changes[0].before.startswith("hash")


def drawing(seed: int, noise: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    big = np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    big += np.random.default_rng(1).integers(-noise, noise + 1, big.shape)
    return Image.fromarray(big.clip(0, 255).astype(np.uint8))


def test_near_duplicates_are_found_and_other_pictures_are_not():
    recoloured = Image.fromarray(np.asarray(drawing(0))[..., ::-1].copy())
    pictures = [drawing(0), drawing(1), drawing(0, noise=2), drawing(0).resize((48, 48)), drawing(0), recoloured]
    hashes = [picture_hash(picture) for picture in pictures]
    assert find_duplicates(hashes, max_difference=2.0) == [0, 1, 0, 0, 0, 5]
    assert find_duplicates([None, hashes[0], None], 2.0) == [0, 1, 2]


def test_cap_keeps_a_stable_choice():
    rows = [row(str(i), creator="a" if i < 8 else "") for i in range(12)]
    kept, report = cap(rows, lambda r: r.creator or "", 3, "creator", seed=0)
    assert sum(r.creator == "a" for r in kept) == 3
    assert sum(r.creator == "" for r in kept) == 4
    again, _ = cap(rows[::-1], lambda r: r.creator or "", 3, "creator", seed=0)
    assert {r.id for r in kept} == {r.id for r in again}
    assert (report.rows_before, report.rows_after, len(report.changes)) == (12, 7, 5)


@pytest.fixture
def messy(tmp_path):
    with DatasetWriter(tmp_path / "messy") as writer:
        for i in range(20):
            data = io.BytesIO()
            drawing(i // 2).save(data, "PNG")  # every picture twice
            name = f"things/{'abcdefghijklmnopqrst'[i] * 4}.png"
            image = [EncodedImage(data=data.getvalue())]
            writer.write(Sample(id=name, images=image, captions=["the stamp"], texts={"path": name}, creator="one"))
    return open_dataset(tmp_path / "messy")


def test_plan_runs_from_messy_to_curated(messy, tmp_path):
    before = messy.fingerprint()
    curated, report = curate(messy, tmp_path / "out", Plan(per_creator=7))
    assert messy.fingerprint() == before
    assert [(step.name, step.rows_after) for step in report.steps] == [
        ("tags", 20),
        ("captions", 20),
        ("uncaptioned", 20),
        ("duplicates", 10),
        ("cap per caption", 10),
        ("cap per creator", 7),
    ]
    assert (len(curated), report.rows_before, report.rows_after) == (7, 20, 7)
    assert all(sample.captions[0].endswith(", things") and sample.images[0].data for sample in curated)
    card = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert card["curation"]["steps"][3]["changed"] == 10
    assert card["plan"]["per_creator"] == 7
    rows, _ = run_plan(messy, Plan(per_creator=7))
    assert [r.id for r in rows] == curated.ids


def test_plan_files_are_read_strictly(tmp_path):
    good, bad = tmp_path / "plan.toml", tmp_path / "bad.toml"
    good.write_text("near_duplicates = 4.0\nper_creator = 50\n")
    bad.write_text("near_dups = 4.0\n")
    assert read_plan(good) == Plan(near_duplicates=4.0, per_creator=50)
    with pytest.raises(InputError, match=r"bad.toml: unknown key 'near_dups'"):
        read_plan(bad)
