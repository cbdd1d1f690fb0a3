"""`diptych health` from the command line, on a model that has learnt nothing."""

import json
from pathlib import Path

from said import Call


def test_health_prints_rows_writes_the_page_and_json(call: Call, model: Path, tmp_path: Path) -> None:
    page, numbers = tmp_path / "out" / "health.html", tmp_path / "health.json"
    world = "scenes:?n=36&size=32&split=test"
    said = call("health", model, "--data", world, "--html", page, "--json", numbers)
    assert said.code == 0, said.err
    assert "rows judged on 36 samples of scenes:?n=36" in said.out
    assert "guesser that never looks" in said.out and "By bad luck alone" in said.out
    found = json.loads(numbers.read_text(encoding="utf-8"))
    assert {row["test"] for row in found["rows"]} >= {"word order", "nonsense", "robustness", "cost"}
    assert all(row["verdict"] == "not judged" or row["estimate"] for row in found["rows"])
    bad = [row["name"] for row in found["rows"] if row["verdict"] == "bad"]
    assert "own caption among 10" in bad  # it has learnt nothing
    assert not [row["name"] for row in found["rows"] if row["test"] == "word order" and row["verdict"] == "good"]
    size = next(row for row in found["rows"] if row["name"] == "size")
    assert size["details"]["parameters"] > 0 and "parameters" in size["sentence"]
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_health_runs_only_the_tests_that_are_asked_for(call: Call, model: Path) -> None:
    world = "scenes:?n=20&size=32&split=test"
    said = call("health", model, "--data", world, "--test", "cost", "--test", "unseen", "--json")
    assert said.code == 0, said.err
    rows = json.loads(said.out)["rows"]
    assert {row["test"] for row in rows} == {"cost", "unseen combinations"}
    assert "which combinations those were" in next(row["sentence"] for row in rows if row["test"] != "cost")
    wrong = call("health", model, "--data", world, "--test", "eyes")
    assert wrong.code == 2 and "tests: expected some of word-order" in wrong.err
