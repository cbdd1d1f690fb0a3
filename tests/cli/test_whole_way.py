"""The whole way of the data through the command line: raw pictures in, a model that is judged and used."""

import json
from pathlib import Path

import numpy as np
import pytest
from said import Call
from shape_world import write_pictures


def test_from_raw_pictures_to_search(call: Call, pictures: Path, settings: list[str], tmp_path: Path) -> None:
    raw, clean, run = tmp_path / "raw", tmp_path / "clean", tmp_path / "run"
    plan = tmp_path / "plan.json"
    plan.write_text('{"steps": [{"do": "captions", "most_repeats": 50}, {"do": "uncaptioned"}]}')
    assert call("data", "import", pictures, "--to", raw).code == 0
    assert call("data", "curate", raw, "--to", clean, "--plan", plan).code == 0

    said = call("train", "clip", "--data", clean, "--out", run, "--preset", "tiny", *settings, "--loader.held_out", 0.3)
    assert said.code == 0 and "6 steps" in said.err
    model = run / "model"
    report, numbers = tmp_path / "report.html", tmp_path / "numbers.json"
    assert call("eval", run, "--data", clean, "--held-out", 0.3, "--html", report, "--json", numbers).code == 0
    held_out = call("train", "clip", "--data", clean, "--out", run, *settings, "--loader.held_out", 0.3, "--json").json
    judged = json.loads(numbers.read_text())["results"][0]["estimates"]
    assert judged["retrieval/i2t_r@10"]["n"] == held_out["held_out"], "what `train` held out is what `eval` judged"
    assert judged == held_out["estimates"]

    hits = call("search", pictures, "a red circle", "--model", run, "-k", 3, "--json").json
    assert len(hits) == 3 and all(Path(hit["path"]).is_file() for hit in hits)
    assert call("index", model, pictures, "--to", tmp_path / "index").code == 0
    indexed = call("search", tmp_path / "index", "a red circle", "--model", model, "-k", 3, "--json").json
    assert [hit["path"] for hit in indexed] == [hit["path"] for hit in hits]
    assert call("embed", model, clean, "--to", tmp_path / "v.npy").code == 0
    assert np.load(tmp_path / "v.npy").shape == (64, 16)
    answers = call("classify", model, pictures, "--labels", "circle,square,triangle,cross", "--json").json
    assert len(answers) == 64


LEARNERS = {
    "clip": """--preset tiny --model.image.size 32 --model.vision.image_size 32 --model.vision.width 96
        --model.vision.layers 3 --model.vision.heads 4 --model.text.width 96 --model.text.heads 4 --model.embed_dim 64
        --training.epochs 24 --training.lr 2e-3""",
    "lit": """--preset uu --model.image.size 32 --model.vision.width_multiplier 0.25 --model.vision.depth_multiplier 0.5
        --model.text.width 96 --model.text.heads 4 --model.text.layers 2 --training.epochs 16 --training.lr 2e-3""",
}
DATA = "--loader.batch_size 64 --loader.held_out 0.2 --loader.split_by id"


@pytest.mark.slow
@pytest.mark.parametrize("family", LEARNERS)
def test_it_learns_what_is_seen_and_nothing_from_blank_pictures(call: Call, family: str, tmp_path: Path) -> None:
    """About a minute a run on two cores: far beyond chance with the pictures, and at chance with blank ones."""
    found = {}
    for kind in ("seen", "blank"):
        write_pictures(tmp_path / kind, count=1200, size=32, seed=1, blank=kind == "blank")
        data, run = tmp_path / f"{kind}-data", tmp_path / f"{kind}-run"
        assert call("data", "import", tmp_path / kind, "--to", data).code == 0
        words = f"{LEARNERS[family]} {DATA} --json".split()
        said = call("train", family, "--data", data, "--out", run, *words)
        assert said.code == 0, said.err
        found[kind] = said.json
    for way in ("t2i", "i2t"):
        name = f"retrieval/{way}_r@1"
        seen, blank = (found[kind]["estimates"][name] for kind in ("seen", "blank"))
        assert seen["low"] > 5 * seen["chance"], f"{name}: {seen}"
        assert blank["low"] <= blank["chance"] * 1.01 and blank["value"] < 2 * blank["chance"], f"{name}: {blank}"
    assert any("nothing is learnt" in warning for warning in found["blank"]["warnings"])
    assert not any("nothing is learnt" in warning for warning in found["seen"]["warnings"])
