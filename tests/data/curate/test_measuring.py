"""What is measured is kept: a killed run goes on, a changed plan measures only what is new."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pytest
from curated_rows import digest, drawing, picture, png, rows, write

from diptych.data.curate import Plan, measuring, run_plan
from diptych.data.curate.captions import Captions
from diptych.data.curate.duplicates import Duplicates
from diptych.data.curate.limits import Cap
from diptych.data.curate.measuring import Measurer, Threads
from diptych.data.curate.steps import Decision, Models, Step, Tools, no_models
from diptych.data.curate.texts import Language
from diptych.data.store import Dataset


@dataclass(frozen=True)
class Length(Step):
    """Measures captions and pictures, and notes which rows it was asked about."""

    do: Literal["length"] = "length"

    reads: ClassVar[tuple[str, ...]] = ("captions",)
    measures_texts: ClassVar[tuple[str, ...]] = ("captions",)
    sees_pictures: ClassVar[bool] = True
    asked: ClassVar[list[int]] = []

    def measures(self, models: Models) -> str:
        return "length"

    def measure(self, batch: Any, models: Models) -> dict[str, Any]:
        assert len(batch) <= measuring.BATCH
        self.asked.extend(batch["row"].to_pylist())
        lengths = [len(texts[0]) for texts in batch["captions"].to_pylist()]
        sizes = [len(data.as_py() or b"") for data in batch["picture"]]
        return {"letters": pa.array(lengths, pa.int32()), "bytes": pa.array(sizes, pa.int64())}

    def decide(self, rows: Any, tools: Tools) -> Decision:
        return Decision("Kept all.")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """300 rows; the picture of row i has i bytes."""
    return write(tmp_path / "data", [picture(f"{i}", bytes(i) if i else None, "x" * (i % 7)) for i in range(300)])


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measurer:
    """With ranges of 100 rows."""
    monkeypatch.setattr(measuring, "RANGE", 100)
    Length.asked.clear()
    return Measurer(tmp_path / "work", Threads(3), no_models)


def table_of(data: Dataset, wanted: Any) -> pa.Table:
    """Rows of the data as a plan has them."""
    table = data.table(wanted, ("captions",)).append_column("row", pa.array(np.asarray(wanted), pa.int64()))
    return pa.concat_tables([table.slice(0, 7), table.slice(7)])


def test_values_come_in_the_order_of_the_rows_and_only_once(data: Dataset, measure: Measurer, tmp_path: Path) -> None:
    odd = np.arange(1, 300, 2)
    found = measure(Length(), data, table_of(data, odd))
    assert found["bytes"].to_pylist() == odd.tolist() and found["letters"].to_pylist() == (odd % 7).tolist()
    assert sorted(Length.asked) == odd.tolist()
    everything = measure(Length(), data, table_of(data, np.arange(300)))
    assert everything["bytes"].to_pylist() == list(range(300)) and sorted(Length.asked) == list(range(300))
    files = digest(tmp_path / "work")
    measure(Length(), data, table_of(data, np.arange(40, 260)))
    assert len(Length.asked) == 300 and digest(tmp_path / "work") == files and len(files) == 3
    said: list[tuple[str, int, int]] = []
    measure.progress = lambda *words: said.append(words)
    next(iter((tmp_path / "work").rglob("0000001.arrow"))).write_bytes(b"ARROW1\0\0 and no more")
    assert measure(Length(), data, table_of(data, np.arange(300)))["bytes"].to_pylist() == list(range(300))
    assert len(Length.asked) == 400, "a damaged file is measured again"
    assert said == [("measuring length", 200, 300), ("measuring length", 300, 300)]


def test_a_new_text_is_measured_and_old_values_of_it_are_not_used(data: Dataset, measure: Measurer) -> None:
    before = table_of(data, np.arange(300))
    measure(Length(), data, before)
    captions = before["captions"].to_pylist()
    captions[5] = captions[205] = ["a new caption"]
    after = before.set_column(before.column_names.index("captions"), "captions", pa.array(captions))
    Length.asked.clear()
    assert [measure(Length(), data, after)["letters"][i].as_py() for i in (4, 5, 205)] == [4, 13, 13]
    assert sorted(Length.asked) == [5, 205]


def test_data_and_views_do_not_share_values(data: Dataset, measure: Measurer, tmp_path: Path) -> None:
    measure(Length(), data, table_of(data, np.arange(300)))
    view = data.select(range(299, -1, -1))
    assert measure(Length(), view, table_of(view, np.arange(300)))["bytes"].to_pylist() == list(range(299, -1, -1))
    assert len(list((tmp_path / "work").iterdir())) == 2


def test_what_a_step_raises_is_raised(data: Dataset, measure: Measurer) -> None:
    class Broken(Length):
        def measure(self, batch: Any, models: Models) -> dict[str, Any]:
            raise ZeroDivisionError("broken")

    with pytest.raises(ZeroDivisionError, match="broken"):
        measure(Broken(), data, table_of(data, np.arange(300)))


KILLED = """
import sys
from pathlib import Path
from diptych.data.curate import Plan, measuring, run_plan
from diptych.data.curate.duplicates import Duplicates
from diptych.data.curate.measuring import Threads
from diptych.data.store import Dataset

measuring.RANGE = 30
run_plan(Dataset.open(sys.argv[1]), Plan((Duplicates(),)), engine=Threads(1), work=Path(sys.argv[2]))
"""


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed as soon as its first range is on disk; the next run measures the other ranges only, and gives the same."""
    files = [png(drawing(i // 2, size=160)) for i in range(40)]
    data = write(tmp_path / "data", [picture(f"{i}", files[i % 40], f"caption {i}") for i in range(600)])
    source, work = digest(tmp_path / "data"), tmp_path / "work"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "data"), str(work)])
    while not (done := list(work.rglob("*.arrow"))) and child.poll() is None:
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL and 0 < len(done) < 20
    monkeypatch.setattr(measuring, "RANGE", 30)
    kept = {path: path.stat().st_mtime_ns for path in work.rglob("*.arrow")}
    said: list[int] = []
    plan = Plan((Duplicates(), Cap(per="caption", most=1)))
    outcome = run_plan(data, plan, work=work, progress=lambda what, done, total: said.append(done))
    assert said[0] == 30 * len(kept) and said[-1] == 600
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "what was measured is not touched"
    fresh = run_plan(data, plan, work=tmp_path / "fresh")
    assert outcome.rows.equals(fresh.rows) and outcome.report == fresh.report and len(outcome.rows) == 20
    assert digest(tmp_path / "data") == source


def test_a_changed_plan_measures_what_is_new(data: Dataset, tmp_path: Path) -> None:
    """Pictures once, whatever the captions; the language of a caption again when the caption is another one."""
    measured: list[list[str]] = []
    for steps in [
        (Language(), Duplicates()),
        (Duplicates(difference=None), Language(sure=0.9)),
        (Captions(most_repeats=1), Language()),
        (Captions(most_repeats=1), Language(), Duplicates()),
    ]:
        measured.append([])
        run_plan(data, Plan(steps), work=tmp_path / "work", progress=lambda what, *_: measured[-1].append(what))
    assert [list(dict.fromkeys(said)) for said in measured] == [
        ["measuring language", "measuring duplicates"],
        [],
        ["measuring language"],
        [],
    ]


def test_pieces_of_rows_are_those_of_the_table() -> None:
    from diptych.data.curate import lists

    table = rows([["a"], [], None] * 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "SLICE", 4)
        found = [entry for piece in lists.pieces(table.select(["captions"])) for entry in piece["captions"]]
    assert found == table["captions"].to_pylist()
