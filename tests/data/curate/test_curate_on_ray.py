"""Curation through Ray Data on a local cluster of two workers: the same rows, also when a worker is killed."""

import builtins
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from curated_rows import Noted, colours, digest, drawing, picture, png, write
from PIL import Image

from diptych.data.curate import Plan, curate, measuring, run_plan
from diptych.data.curate.duplicates import Duplicates
from diptych.data.curate.limits import Cap
from diptych.data.curate.measuring import Engine
from diptych.data.curate.on_ray import on_ray
from diptych.data.curate.pictures import PictureSize
from diptych.data.curate.texts import Language
from diptych.data.curate.with_models import Similarity
from diptych.data.store import Dataset
from diptych.types import InputError


@pytest.fixture(scope="module")
def cluster() -> Iterator[Engine]:
    """Two workers that find the modules of this folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        with on_ray(2) as engine:
            yield engine


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A view of 240 rows: drawings, each twice, red pictures, and rows without a picture; ranges of 40 rows."""
    monkeypatch.setattr(measuring, "RANGE", 40)
    samples = [picture(f"{i}", png(drawing(i // 2)), f"a red drawing {i}") for i in range(200)]
    samples += [picture(f"red {i}", png(Image.new("RGB", (40 + i, 60), "red")), "a blue thing") for i in range(40)]
    samples += [picture(f"bare {i}", None, "Ein roter Hund läuft über die nasse Wiese, red") for i in range(20)]
    return write(tmp_path / "data", samples).select(range(259, 19, -1))


PLAN = Plan(
    (
        PictureSize(least_side=50),
        Similarity(model="colours", least=0.2, lowest=0),
        Language(keep=("en",), sure=0.9),
        Duplicates(),
        Cap(per="caption", most=3),
    )
)


def test_the_same_rows_and_the_same_measured_bytes(cluster: Engine, data: Dataset, tmp_path: Path) -> None:
    here = run_plan(data, PLAN, models=colours, work=tmp_path / "here")
    there = run_plan(data, PLAN, models=colours, work=tmp_path / "there", engine=cluster)
    assert [step.changed > 0 for step in here.report.steps] == [True, True, True, True, False]
    assert there.rows.equals(here.rows) and there.report == here.report
    measured = digest(tmp_path / "here")
    assert digest(tmp_path / "there") == measured and len(measured) > 20, "four steps, six ranges"


def test_a_killed_worker_loses_nothing(cluster: Engine, data: Dataset, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    killed: list[int] = []

    def kill_one(what: str, done: int, total: int) -> None:
        if not killed and done:
            newest = max(notes.iterdir(), key=lambda note: note.stat().st_mtime_ns)
            killed.append(int(newest.name.split(".")[0]))
            os.kill(killed[0], signal.SIGKILL)

    plan = Plan((Noted(folder=str(notes)),))
    outcome = run_plan(data, plan, work=tmp_path / "work", engine=cluster, progress=kill_one)
    fresh = run_plan(data, Plan((Duplicates(),)), work=tmp_path / "fresh")
    assert outcome.rows.equals(fresh.rows)
    workers = {int(note.name.split(".")[0]) for note in notes.iterdir()}
    assert killed and killed[0] in workers and os.getpid() not in workers and len(workers) >= 2
    with pytest.raises(ProcessLookupError):
        os.kill(killed[0], 0)


def test_what_is_wrong_on_a_worker_is_one_sentence(cluster: Engine, data: Dataset, tmp_path: Path) -> None:
    plan = Plan((Duplicates(),))
    lost = Dataset(data._store, data.name, None, {}, None, address=str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="elsewhere: no such dataset"):
        run_plan(lost, plan, work=tmp_path / "work", engine=cluster)


def test_without_ray_is_one_sentence(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r'pip install "diptych\[ray\]"'):
        curate(data, tmp_path / "out", engine_name="ray")
