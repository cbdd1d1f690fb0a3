"""A plan from its file to the new dataset: the whole way, the datasheet, previews, and bad plans."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from curated_rows import colours, digest, drawing, picture, png, write

from diptych.cli import main
from diptych.config import as_dict
from diptych.data import open_dataset
from diptych.data.curate import DEFAULT, Plan, curate, read_plan, run_plan
from diptych.data.curate.captions import Captions
from diptych.data.curate.duplicates import Duplicates
from diptych.data.curate.leak_step import Leaks
from diptych.data.curate.limits import Cap, Uncaptioned
from diptych.data.curate.pictures import Aspect, Readable
from diptych.data.curate.plan import NAMES
from diptych.data.curate.preview import in_all
from diptych.data.curate.texts import Language, TextLength
from diptych.data.curate.with_models import SemanticDuplicates, Similarity
from diptych.data.store import Dataset, table_of
from diptych.types import EncodedImage, InputError, Negative, Sample


@pytest.fixture
def messy(tmp_path: Path) -> Dataset:
    """Ten pictures, each twice, under one stamp."""
    samples = []
    for i in range(20):
        name = f"things/{'abcdefghijklmnopqrst'[i] * 4}.png"
        fields = {"texts": {"path": name}, "creator": "one", "license": "CC0", "split": "train" if i % 2 else "val"}
        samples.append(picture(name, png(drawing(i // 2)), "the stamp", **fields))
    return write(tmp_path / "messy", samples)


def default(per_creator: int) -> Plan:
    """The default plan with another cap."""
    return Plan((*DEFAULT[:-1], Cap(per="creator", most=per_creator)))


def test_from_messy_to_curated(messy: Dataset, tmp_path: Path) -> None:
    before = digest(tmp_path / "messy")
    curated, report = curate(messy, tmp_path / "out", default(7), work=tmp_path / "work")
    assert digest(tmp_path / "messy") == before, "the source is only read"
    assert [(step.name, step.rows_after, step.changed) for step in report.steps] == [
        ("tags", 20, 0),
        ("captions", 20, 20),
        ("uncaptioned", 20, 0),
        ("duplicates", 10, 10),
        ("cap per caption", 10, 0),
        ("cap per creator", 7, 3),
    ]
    assert (len(curated), report.rows_before, report.rows_after, report.rows_in_all) == (7, 20, 7, 20)
    assert all(sample.captions[0].endswith(", things") and sample.images[0].data for sample in curated)
    outcome = run_plan(messy, default(7), work=tmp_path / "work")
    assert outcome.rows["id"].to_pylist() == curated.ids and outcome.report == report
    change = report.steps[-1].examples[0]
    assert messy[change.row].id == change.id and change.before == "creator 'one'" and change.after == ""


def test_the_same_plan_gives_the_same_bytes(messy: Dataset, tmp_path: Path) -> None:
    for place in ("a", "b"):
        curate(messy, tmp_path / place / "out", default(7), work=tmp_path / place / "work")
    assert digest(tmp_path / "a" / "out") == digest(tmp_path / "b" / "out")
    assert set(digest(tmp_path / "a" / "out")) >= {"dataset.json", "datasheet.md", "data-00000.parquet"}
    assert digest(tmp_path / "a" / "work") == digest(tmp_path / "b" / "work")


def test_the_datasheet_tells_what_became_of_every_row(messy: Dataset, tmp_path: Path) -> None:
    messy.card["rejected"] = {"image truncated": 3}
    curate(messy, tmp_path / "out", default(7), work=tmp_path / "work")
    card = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert card["plan"]["steps"][-1] == {"do": "cap", "per": "creator", "most": 7}
    assert card["plan_fingerprint"] == default(7).fingerprint() != default(8).fingerprint()
    assert card["curated_from"] == {"name": "messy", "fingerprint": messy.fingerprint(), "rows": 20}
    assert (card["curation"]["rows_before"], card["curation"]["rows_after"], card["rows"]) == (20, 7, 7)
    gone = [step["rows_before"] - step["rows_after"] for step in card["curation"]["steps"]]
    assert sum(gone) == 13 and len(card["curation"]["steps"][3]["examples"]) == 10
    holds = card["holds"]
    assert holds["license"]["top"] == {"CC0": {"before": 20, "after": 7}}
    assert sum(n["after"] for n in holds["split"]["top"].values()) == 7
    assert holds["label"] == {"distinct": {"before": 0, "after": 0}, "empty": {"before": 20, "after": 7}, "top": {}}
    assert (holds["captions"]["all"], holds["captions"]["distinct"]) == (7, 7)
    assert holds["captions"]["words"] == {"least": 2, "5 %": 2, "median": 2, "95 %": 2, "most": 2}
    page = (tmp_path / "out" / "datasheet.md").read_text()
    for words in (
        "7 of the 20 samples of messy, after 6 steps",
        "| CC0 | 20 | 7 |",
        "| cap per creator | 10 | 7 | 3 |",
        "could not be read were rejected: 3 image truncated.",
        "Sources.** Not known.",
        f"Plan `{card['plan_fingerprint']}` on data `{messy.fingerprint()}`",
        '"per": "creator"',
    ):
        assert words in page, words


def test_rows_of_one_id_are_told_apart(tmp_path: Path) -> None:
    """A store that is not ours may repeat an id; rows are found by their place."""

    class Twins:
        def __len__(self) -> int:
            return 2

        def take(self, rows, fields):
            return [Sample("same", captions=[f"number {row}"]) for row in rows]

        def table(self, rows, fields):
            return table_of(self.take(range(2) if rows is None else rows, fields), fields)

        def fingerprint(self) -> str:
            return "twins"

    curated, _ = curate(Dataset(Twins(), "twins", None, {}), tmp_path / "out", Plan((Uncaptioned(),)))
    assert [(s.id, s.captions) for s in curated] == [("same", ["number 0"]), ("same#2", ["number 1"])]


def test_rows_that_another_dataset_holds_go(messy: Dataset, tmp_path: Path) -> None:
    noisy = [picture(f"held out {i}", png(drawing(i, noise=2))) for i in (3, 5)]
    held_out = [picture("other", png(drawing(77))), picture("none", None), *noisy, picture("same", png(drawing(8)))]
    write(tmp_path / "test", held_out)
    against = str(tmp_path / "test")
    outcome = run_plan(messy, Plan((Leaks(against=against), Duplicates())), work=tmp_path / "work")
    assert outcome.rows["row"].to_pylist() == [2 * i for i in range(10) if i not in (3, 5, 8)]
    said = {change.before for change in outcome.report.steps[0].examples}
    assert said == {f"repeats {name} of test" for name in ("held out 3", "held out 5", "same")}
    exact = run_plan(messy, Plan((Leaks(against=against, difference=None),)), work=tmp_path / "work")
    assert exact.report.rows_after == 18
    with pytest.raises(InputError, match="nowhere: no such dataset"):
        run_plan(messy, Plan((Leaks(against="nowhere"),)), work=tmp_path / "work")
    nothing = write(tmp_path / "nothing", [Sample("a", captions=["text only"])])
    assert len(run_plan(nothing, Plan((Leaks(against=against),)), work=tmp_path / "work").rows) == 1
    assert len(run_plan(messy, Plan((Leaks(against=str(tmp_path / "nothing")),)), work=tmp_path / "work").rows) == 20


def test_rows_of_several_pictures_are_judged_by_all_of_them(tmp_path: Path) -> None:
    """Pairs often share a picture; they repeat each other only if both are equal, and leak if one does."""

    def row(id: str, *pictures: int, data: bytes = b"", **fields) -> Sample:
        images = [EncodedImage(png(drawing(i))) for i in pictures] + [EncodedImage(data)] * bool(data)
        return Sample(id, images, ["two pictures"], **fields)

    near = png(drawing(1, noise=2))
    samples = [row("a", 0, 1), row("b", 0, 2), row("again", 0, 1), row("one", 0), row("near", 0, data=near)]
    samples += [row("broken", 0, data=b"no picture"), row("broken too", 0, data=b"no picture"), row("one again", 0)]
    data = write(tmp_path / "data", samples)

    def left(*steps) -> list[str]:
        outcome = run_plan(data, Plan(steps), work=tmp_path / "work", models=colours)
        return outcome.rows["id"].to_pylist()

    assert left(Duplicates()) == ["a", "b", "one", "near", "broken", "broken too"]
    assert left(Readable()) == ["a", "b", "again", "one", "near", "one again"]
    assert left(SemanticDuplicates(model="colours", threshold=0.5)) == [s.id for s in samples[:-1]]
    write(tmp_path / "test", [row("test", 7, 2), row("other", 1)])
    against = str(tmp_path / "test")
    assert left(Leaks(against=against, difference=None)) == ["one", "near", "broken", "broken too", "one again"]
    assert left(Leaks(against=against)) == ["one", "broken", "broken too", "one again"]


def test_negatives_go_with_their_captions(tmp_path: Path) -> None:
    captions = ["short", "a red cube left of a ball", "a cone on grass"]
    negatives = [Negative("shrot", "spelling", 0), Negative("a ball left of a red cube", "order", 1)]
    data = write(tmp_path / "data", [Sample("a", captions=captions, negatives=[*negatives, Negative("x", "y", 2)])])
    (sample,), _ = curate(data, tmp_path / "out", Plan((TextLength(words=(2, 60)),)), work=tmp_path / "work")
    assert sample.captions == captions[1:]
    assert sample.negatives == [Negative("a ball left of a red cube", "order", 0), Negative("x", "y", 1)]


def test_what_cannot_go_well_is_told_before_anything_is_measured(messy: Dataset, tmp_path: Path) -> None:
    class Unmeasured(Duplicates):
        def measure(self, batch, models):
            raise AssertionError("measured")

    before = digest(messy.folder)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").touch()
    link = tmp_path / "link"
    link.symlink_to(messy.folder)
    for to, says in ((messy.folder, "only read"), (link, "only read"), (tmp_path / "taken", "not a Diptych dataset")):
        with pytest.raises(InputError, match=says):
            curate(messy, to, Plan((Unmeasured(),)))
        assert main(["data", "curate", str(messy.folder), "--to", str(to)]) == 2
    assert digest(messy.folder) == before
    with pytest.raises(InputError, match="no models were given"):
        run_plan(messy, Plan((Unmeasured(), Similarity())), work=tmp_path / "work")
    with pytest.raises(InputError, match="workers: expected one or more, got 0"):
        curate(messy, tmp_path / "out", workers=0)


def test_views_and_rows_without_anything(messy: Dataset, tmp_path: Path) -> None:
    view = messy.select([19, 3, 3, 0])
    outcome = run_plan(view, Plan((Duplicates(),)), work=tmp_path / "work")
    assert outcome.rows["row"].to_pylist() == [0, 1, 3]
    bare = write(tmp_path / "bare", [Sample("a"), Sample("b", captions=["only text here"])])
    plan = Plan((*DEFAULT, TextLength(), Language(), Aspect()))
    assert run_plan(bare, plan, work=tmp_path / "work").rows["id"].to_pylist() == ["b"]
    empty, report = curate(bare.select([]), tmp_path / "out", plan, work=tmp_path / "work")
    assert len(empty) == 0 and [step.rows_before for step in report.steps] == [0] * 9


# ---------------------------------------------------------------- previews


def test_a_preview_estimates_what_each_row_decides_for_itself(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = [Sample(str(i), captions=["one two three" if rng.random() < 0.3 else "one"]) for i in range(4000)]
    data = write(tmp_path / "data", samples)
    plan = Plan((TextLength(words=(2, 9)), Cap(per="caption", most=5), Uncaptioned()), seed=1)
    report = run_plan(data, plan, sample=500, work=tmp_path / "work").report
    truth = run_plan(data, plan, work=tmp_path / "work").report
    assert (report.rows_before, report.rows_in_all) == (500, 4000)
    estimate, cap, after = in_all(report)
    assert estimate is not None and estimate.low < truth.steps[0].rows_after < estimate.high
    assert estimate.high - estimate.low < 400 and estimate.n == 500
    assert estimate.value == 8 * report.steps[0].rows_after
    assert cap is None and after is None, "a cap on a sample tells nothing of all rows"
    assert in_all(truth) == [None] * 3
    assert run_plan(data, plan, sample=4000, work=tmp_path / "work").report == truth


# ---------------------------------------------------------------- plans


def test_plan_files_are_read_strictly(tmp_path: Path) -> None:
    good = tmp_path / "plan.toml"
    good.write_text('seed = 3\n[[steps]]\ndo = "text-length"\nwords = [3, 60]\n[[steps]]\ndo = "duplicates"\n')
    assert read_plan(good) == Plan((TextLength(words=(3, 60)), Duplicates()), seed=3)
    assert read_plan(good, {"seed": 4}).seed == 3
    same = tmp_path / "plan.json"
    same.write_text('{"steps": [{"do": "text-length", "words": [3, 60]}, {"do": "duplicates"}]}')
    assert read_plan(same, {"seed": 3}) == read_plan(good)
    same.write_text(json.dumps(as_dict(Plan())))
    assert read_plan(same) == Plan(), "a plan in a dataset's card can be run again"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("near_duplicates = 4.0", "unknown key 'near_duplicates'"),
        ('[[steps]]\ndo = "langauge"', "steps.0: do: expected tags, captions, .*; got 'langauge'"),
        ("[[steps]]\nwords = [3, 60]", "steps.0: do: expected .*; got None"),
        ("steps = [3]", "steps.0: do: expected .*; got 3"),
        ("steps = 3", "steps: "),
        ('[[steps]]\ndo = "text-length"\nletters = 3', "unknown key 'steps.0.text-length.letters'"),
        ('[[steps]]\ndo = "text-length"\nwords = [3]', "steps.0.text-length.words"),
        ('[[steps]]\ndo = "text-length"\nwords = [-1, 3]', "greater than or equal to 0"),
        ('[[steps]]\ndo = "text-length"\nwords = [9, 3]', "text-length: words: expected the fewest first, got 9, 3"),
        ('[[steps]]\ndo = "cap"\nper = "moon"', "steps.0.cap.per"),
        ('[[steps]]\ndo = "cap"\nmost = 0', "greater than or equal to 1"),
        ('[[steps]]\ndo = "similarity"\nlowest = 1.0', "less than 1"),
        ('[[steps]]\ndo = "balance"', "steps.0.balance.entries: Field required"),
        ("[[steps]\n", "cannot be read as TOML"),
    ],
)
def test_a_bad_plan_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(text)
    with pytest.raises(InputError, match=f"bad.toml: .*{sentence}") as error:
        read_plan(bad)
    assert len(str(error.value).splitlines()) == 1


def test_every_kind_of_step_has_its_name_and_says_what_it_reads() -> None:
    assert len(NAMES) == len(set(NAMES)) and {"tags", "similarity", "semantic-duplicates", "balance"} <= set(NAMES)
    assert {step.do for step in DEFAULT} == {"tags", "captions", "uncaptioned", "duplicates", "cap"}
    assert Cap(per="caption").reads == ("captions",) and Cap(per="creator").name == "cap per creator"
    assert Similarity().do == "similarity" and Captions().per_row is False


def test_clipart_is_curated_as_before() -> None:
    """The rows and captions that pocket, the demo and their figures in the docs are made of.

    The hash is of what the default plan gave at commit 0c5362f, when it was a fixed function over samples.
    """
    outcome = run_plan(open_dataset("clipart"))
    columns = (outcome.rows[name].to_pylist() for name in ("id", "captions", "tags"))
    found = hashlib.sha256(json.dumps(list(zip(*columns))).encode()).hexdigest()
    assert len(outcome.rows) == 5085
    assert found == "03d8ca8b1b87a42478f766a9d107f571e062e678a45a26ec55f4599fa3a21121"
