"""Each verb on something small: what it prints, what it writes, what it leaves out and says so."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from said import Call
from shape_world import TINY_CLIP

import diptych
from diptych import models
from diptych.cli import doctor
from diptych.data import open_dataset
from diptych.models import asif
from diptych.models.clip import CLIP
from diptych.training.run import StopRequest

METRICS = {f"retrieval/{way}_{what}" for way in ("i2t", "t2i") for what in ("r@1", "r@5", "r@10", "median_rank")}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """The pictures as a dataset."""
    from diptych.data import import_dataset

    return import_dataset(pictures, tmp_path_factory.mktemp("data") / "shapes").folder


# ---------------------------------------------------------------- data


def test_import_counts_what_it_rejects(call: Call, pictures: Path, tmp_path: Path) -> None:
    said = call("data", "import", pictures, "--to", tmp_path / "shapes", "--name", "mine")
    assert said.code == 0 and "64 samples, read as folder" in said.out
    assert "rejected: 1 image truncated" in said.out and "quarantine.jsonl" in said.out
    again = call("data", "import", pictures, "--to", tmp_path / "shapes", "--json").json
    assert (again["rows"], again["rejected"]) == (64, {"image truncated": 1})
    assert call("data", "import", tmp_path / "none", "--to", tmp_path / "x").code == 2


def test_import_takes_addresses(call: Call, shapes: Path, tmp_path: Path) -> None:
    assert call("data", "export", shapes, "--to", f"coco:{tmp_path / 'coco'}", "--count", 3).code == 0
    said = call("data", "import", f"coco:{tmp_path / 'coco'}", "--to", tmp_path / "back")
    assert said.code == 0 and "3 samples, read as coco" in said.out
    assert call("data", "import", "scenes:?n=2&size=32", "--to", tmp_path / "scenes", "--json").json["rows"] == 2
    wrong = call("data", "import", f"coco:{tmp_path / 'coco'}?split=none", "--to", tmp_path / "none")
    assert wrong.code == 2 and "split 'none'" in wrong.err and not (tmp_path / "none").exists()


@pytest.mark.parametrize("words", [("export", "clipart", "--to", "coco:x"), ("show", "clipart", "--png", "x.png")])
def test_a_count_below_one_is_refused(call: Call, tmp_path: Path, words: tuple[str, ...], monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = call("data", *words, "--count", -3)
    assert said.code == 2 and "expected at least one" in said.err and not list(tmp_path.iterdir())


def test_show_describes_a_dataset(call: Call, shapes: Path, tmp_path: Path) -> None:
    said = call("data", "show", shapes, "--html", tmp_path / "s.html", "--png", tmp_path / "s.png", "--count", 6)
    assert said.code == 0
    for words in ("image truncated", "painter 3", "circle", "words in a caption: 9 in the median, 9 to 9"):
        assert words in said.out
    assert "<html" in (tmp_path / "s.html").read_text() and Image.open(tmp_path / "s.png").width > 400
    facts = call("data", "show", shapes, "--json").json
    assert facts["samples"] == 64 and facts["filled"]["captions"] == 64 and facts["rejected"] == {"image truncated": 1}
    assert facts["commonest"]["label"]["cross"] == 16 and len(facts["commonest"]["creator"]) == 5


def test_curate_says_what_each_step_did(call: Call, shapes: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"steps": [{"do": "text-length"}, {"do": "cap", "per": "creator", "most": 3}]}))
    words = ("data", "curate", shapes, "--plan", plan)
    said = call(*words, "--dry-run", "--html", tmp_path / "steps.html")
    assert said.code == 0 and "nothing was written" in said.out
    assert "cap per creator" in said.out and "creator 'painter" in said.out and "(dropped)" in said.out
    assert "cap per creator" in (tmp_path / "steps.html").read_text()
    result = call(*words, "--to", tmp_path / "clean", "--json").json
    assert (result["rows_before"], result["rows_after"], result["plan"]["steps"][1]["most"]) == (64, 48, 3)
    step = result["steps"][-1]
    assert (step["name"], step["rows_after"], step["changed"], len(step["examples"])) == ("cap per creator", 48, 16, 3)
    assert call("data", "show", tmp_path / "clean", "--json").json["samples"] == 48
    assert "48 of the 64 samples of shapes" in (tmp_path / "clean" / "datasheet.md").read_text()
    said = call(*words, "--dry-run", "--sample", 20, "--work", tmp_path / "work")
    assert said.code == 0 and "Judged on 20 of 64 rows" in said.out and "64 (54 to 64)" in said.out
    assert call(*words, "--to", tmp_path / "x", "--sample", 20).code == 2
    again = tmp_path / "again.json"
    again.write_text(json.dumps(result["plan"]))
    words = ("data", "curate", shapes, "--plan", again, "--to", tmp_path / "again", "--json")
    assert call(*words).json["steps"] == result["steps"], "the plan that was run is a plan to run"
    again.write_text('{"per_painter": 3}')
    assert "unknown key 'per_painter'" in call(*words).err


def test_curate_with_a_model(call: Call, model: Path, shapes: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    steps = [
        {"do": "similarity", "model": str(model), "lowest": 0.25},
        {"do": "semantic-duplicates", "model": str(model), "threshold": 0.999999},
    ]
    plan.write_text(json.dumps({"steps": steps}))
    words = ("data", "curate", shapes, "--plan", plan, "--to", tmp_path / "clean", "--json")
    result = call(*words).json
    assert [step["rows_after"] for step in result["steps"]][0] == 48 and result["rows_after"] > 0
    clean = open_dataset(tmp_path / "clean")
    scores = dict(zip(clean.ids, clean.column("scores.similarity")))
    loaded = diptych.load(model)
    kept = clean.take(range(len(clean)))
    pictures = diptych.embed_images(loaded, clean)
    texts = diptych.embed_texts(loaded, [sample.captions[0] for sample in kept])
    cosines = (pictures * texts).sum(axis=1)
    assert [scores[sample.id] for sample in kept] == pytest.approx(cosines.tolist(), abs=2e-2)
    plan.write_text(json.dumps({"steps": [{"do": "similarity", "model": "no-such-model"}]}))
    assert "no-such-model" in call(*words).err


# ---------------------------------------------------------------- models at work


def test_eval_retrieve(call: Call, model: Path, shapes: Path, tmp_path: Path) -> None:
    said = call("eval", model, "--data", shapes, "--html", tmp_path / "r.html", "--json", tmp_path / "n.json")
    assert said.code == 0 and "95 % interval" in said.out and "Picture to text, R@10" in said.out
    assert "not shown to be better than chance" in said.out, "it has learnt nothing"
    (found,) = json.loads((tmp_path / "n.json").read_text())["results"]
    assert found["model"] == str(model) and found["data"] == str(shapes) and set(found["estimates"]) == METRICS
    assert all(set(number) == {"value", "low", "high", "n", "chance"} for number in found["estimates"].values())
    assert found["estimates"]["retrieval/t2i_r@10"]["n"] == 64
    assert "Worst failures" in (tmp_path / "r.html").read_text()
    same = call("eval", model, "--data", shapes, "--json")
    assert same.json["results"] == [found] and same.out.startswith("{"), "nothing else on standard output"


def test_eval_on_the_held_out_part(call: Call, model: Path, shapes: Path) -> None:
    from diptych.data import open_dataset

    held_out = open_dataset(shapes).split(0.3, by="creator", seed=5)[1]
    (found,) = call("eval", model, "--data", shapes, "--held-out", 0.3, "--seed", 5, "--json").json["results"]
    assert 0 < found["estimates"]["retrieval/i2t_r@1"]["n"] == len(held_out) < 64


def test_eval_classify(call: Call, model: Path, shapes: Path, tmp_path: Path) -> None:
    said = call("eval", model, "--data", shapes, "--task", "classify", "--html", tmp_path / "z.html", "--json")
    numbers = said.json["results"][0]["estimates"]
    assert numbers["zero_shot/top1"]["n"] == 64 and numbers["zero_shot/top1"]["chance"] == 0.25
    assert "What is taken for what" in (tmp_path / "z.html").read_text()
    words = ("eval", model, "--data", shapes, "--labels", "circle,square,triangle,cross,star", "--json")
    numbers = call(*words, "--task", "classify").json["results"][0]["estimates"]
    assert numbers["zero_shot/top1"]["chance"] == 0.2
    assert call(*words).code == 2, "retrieval has no labels"


def test_eval_of_two_models_on_two_datasets(call: Call, model: Path, shapes: Path, tmp_path: Path) -> None:
    """A model against a copy of itself: the same numbers, no difference; what cannot be judged is named, not fatal."""
    shutil.copytree(model, tmp_path / "copy")
    world = "scenes:?n=8&size=32"
    words = ("eval", model, tmp_path / "copy", "--data", shapes, world, "--task", "match")
    said = call(*words, "--json", tmp_path / "n.json", "--html", tmp_path / "m.html")
    assert said.code == 0 and "no sample has a caption and texts that are close to it" in said.err.replace("\n", " ")
    assert "cannot be told apart from" in said.out
    found = json.loads((tmp_path / "n.json").read_text())
    assert [(one["model"], one["data"]) for one in found["results"]] == [
        (str(model), world),
        (str(tmp_path / "copy"), world),
    ]
    assert found["results"][0]["estimates"] == found["results"][1]["estimates"]
    assert found["differences"] and all(one["value"] == 0 and one["p"] == 1 for one in found["differences"])
    page = (tmp_path / "m.html").read_text()
    assert "The ten worst" in page and "Differences" in page
    nothing = call("eval", model, tmp_path / "copy", "--data", shapes, "--task", "match")
    assert nothing.code == 2 and "no model could be judged" in nothing.err


def test_search_indexes_a_folder_and_follows_its_changes(call: Call, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "colours"
    folder.mkdir()
    for name in ("red", "green", "blue"):
        Image.new("RGB", (20, 20), name).save(folder / f"{name}.png")
    words = ("search", folder, "a", "red", "circle", "--model", model)
    said = call(*words)
    assert said.code == 0 and "3 pictures" in said.err and "3 new" in said.err
    assert [line.split()[0] for line in said.out.splitlines()] == ["1", "2", "3"] and str(
        folder / "red.png"
    ) in said.out
    (folder / "blue.png").unlink()
    Image.new("RGB", (20, 20), "white").save(folder / "white.png")
    said = call(*words, "-k", 2, "--json", "--html", tmp_path / "sheet.html", "--png", tmp_path / "sheet.png")
    assert [hit["rank"] for hit in said.json] == [1, 2] and said.json[0]["score"] >= said.json[1]["score"]
    assert "1 new, 1 gone" in said.err and Path(said.json[0]["path"]).parent == folder
    assert "a red circle" in (tmp_path / "sheet.html").read_text() and Image.open(tmp_path / "sheet.png").width > 700


def test_search_by_picture(call: Call, model: Path, pictures: Path) -> None:
    query = pictures / "circle" / "0000.png"
    best = call("search", pictures, "--image", query, "--model", model, "--json").json[0]
    assert Path(best["path"]) == query and best["score"] == pytest.approx(1, abs=1e-3)
    said = call("search", pictures, "--image", pictures / "broken.jpg", "--model", model)
    assert said.code == 2 and "broken.jpg" in said.err


def test_search_in_an_empty_folder(call: Call, model: Path, tmp_path: Path) -> None:
    said = call("search", tmp_path, "a cat", "--model", model)
    assert said.code == 2 and "expected a folder with pictures" in said.err


def test_search_in_a_dataset_and_in_an_index_of_it(call: Call, model: Path, shapes: Path, tmp_path: Path) -> None:
    in_data = call("search", shapes, "a red circle", "--model", model, "--json", "--html", tmp_path / "s.html")
    assert in_data.code == 0 and "64 pictures" in in_data.err and in_data.json[0]["caption"].startswith("a ")
    assert (tmp_path / "s.html").read_text().count("data:image") == 10
    built = call("index", model, shapes, "--to", tmp_path / "index", "--json").json
    assert (built["added"], built["present"], built["rejected"]) == (64, 0, {})
    assert "0 pictures added, 64 were there" in call("index", model, shapes, "--to", tmp_path / "index").out
    in_index = call("search", tmp_path / "index", "a red circle", "--model", model, "--json")
    assert [hit["id"] for hit in in_index.json] == [hit["id"] for hit in in_data.json]


def test_an_index_is_searched_with_its_own_model(call: Call, model: Path, pictures: Path, tmp_path: Path) -> None:
    said = call("index", model, pictures, "--to", tmp_path / "index")
    assert "64 pictures added" in said.out and "left out: 1 image truncated" in said.out
    other = models.save(CLIP.new(models.load(model).config, ["a red circle"], seed=9), tmp_path / "other")
    said = call("search", tmp_path / "index", "a red circle", "--model", other)
    assert said.code == 2 and "made by another model" in said.err
    assert call("search", tmp_path / "index", "a red circle", "--model", model, "-k", 3).out.count("\n") == 3


def test_search_explains_itself(
    call: Call, pictures: Path, vision_folder: Path, text_folder: Path, model: Path, tmp_path: Path
) -> None:
    known = asif.build(str(vision_folder), str(text_folder), k=4)
    rng = torch.Generator().manual_seed(0)
    names = [f"pair {i}" for i in range(6)]
    known.add_pairs(torch.rand(6, 24, generator=rng), torch.rand(6, 20, generator=rng), names)
    folder = models.save(known, tmp_path / "asif")
    answer = call("search", pictures, "a red circle", "--model", folder, "--explain", "--json").json
    adds = [entry["adds"] for entry in answer["because"]]
    assert 0 < len(adds) <= 5 and adds == sorted(adds, reverse=True)
    assert {entry["pair"] for entry in answer["because"]} <= set(names)
    assert sum(adds) == pytest.approx(answer["hits"][0]["score"], abs=0.02)
    assert answer["because"][0]["pair"] in call("search", pictures, "a red circle", "--model", folder, "--explain").out
    said = call("search", pictures, "a red circle", "--model", model, "--explain")
    assert said.code == 2 and "cannot say why" in said.err


def test_classify_leaves_out_what_cannot_be_read(call: Call, model: Path, pictures: Path) -> None:
    said = call("classify", model, pictures, "--labels", "circle, square", "--labels", "cross")
    assert said.code == 0 and len(said.out.splitlines()) == 64 and "broken.jpg: image truncated" in said.err
    one = pictures / "circle" / "0000.png"
    answers = call("classify", model, one, one, "--labels", "circle,square", "--template", "a {}", "--json").json
    assert [Path(answer["id"]) for answer in answers] == [one, one] and answers[0] == answers[1]
    assert answers[0]["label"] in ("circle", "square") and sum(answers[0]["probabilities"].values()) == pytest.approx(1)


def test_embed_pictures_and_texts(call: Call, model: Path, pictures: Path, tmp_path: Path) -> None:
    width = TINY_CLIP.embed_dim
    said = call("embed", model, pictures, "--to", tmp_path / "v.parquet", "--json")
    table = pq.read_table(tmp_path / "v.parquet")
    assert table.column("id").to_pylist() == said.json["ids"] and len(table) == 64 and said.json["width"] == width
    assert said.json["left_out"][0]["reason"] == "image truncated"
    rows = np.stack(table.column("vector").to_numpy())
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    (tmp_path / "texts.txt").write_text("a red circle\n\na blue square\n", encoding="utf-8")
    assert call("embed", model, tmp_path / "texts.txt", "--to", tmp_path / "t.npy").out.endswith(f"2 x {width}\n")
    assert call("embed", model, "--text", "a blue square", "--to", tmp_path / "one.npy").code == 0
    texts, one = np.load(tmp_path / "t.npy"), np.load(tmp_path / "one.npy")
    assert texts.dtype == np.float32 and np.allclose(texts[1], one[0], atol=0.02)
    both = call("embed", model, pictures, "--text", "a cat", "--to", tmp_path / "x.npy")
    assert both.code == 2 and "either pictures or texts" in both.err
    assert "a text is given as --text 'a red car'" in call("embed", model, "a red car", "--to", tmp_path / "x.npy").err


# ---------------------------------------------------------------- train


def test_train_resolves_presets_files_and_settings(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[training]\nsteps = 7\nlr = 0.5\n[model]\nembed_dim = 32\n")
    words = ("train", "clip", "--data", "clipart", "--out", tmp_path / "run", "--config", file, "--dry-run")
    found = call(*words, "--preset", "small", "--training.lr", "0.25", "--seed", 3, "--device", "cpu").json
    assert (found["model"]["embed_dim"], found["model"]["vision"]["width"]) == (32, 256)
    assert [found["training"][name] for name in ("steps", "epochs", "lr", "seed", "device")] == [
        7,
        None,
        0.25,
        3,
        "cpu",
    ]
    assert found["loader"]["seed"] == 3 and not (tmp_path / "run").exists()
    file.write_text("[trainning]\nsteps = 7\n")
    said = call(*words)
    assert said.code == 2 and "unknown section 'trainning' (did you mean 'training'?)" in said.err


def test_train_tells_what_came_of_it(call: Call, shapes: Path, settings: list[str], tmp_path: Path) -> None:
    words = ["train", "clip", "--data", shapes, "--out", tmp_path / "run", *settings, "--loader.held_out", "0.3"]
    said = call(*words, "--training.lr", "0")
    assert said.code == 0 and f"model: {tmp_path / 'run' / 'model'}" in said.out and "held out: " in said.out
    assert "warning: " in said.err and "nothing is learnt" in said.err, "a rate of 0 learns nothing"
    again = call(*words, "--training.lr", "0", "--json").json
    assert set(again["estimates"]) == METRICS and again["steps"] == 6 and len(again["warnings"]) >= 1
    assert "diptych train clip" in (tmp_path / "run" / "model" / "README.md").read_text()
    said = call(*words, "--training.lr", "1")
    assert said.code == 2 and "lr" in said.err, "another setting is another run"
    assert call(*words, "--training.lr", "0", "--no-resume").code == 2


def test_train_says_when_nothing_was_held_out(call: Call, shapes: Path, settings: list[str], tmp_path: Path) -> None:
    said = call("train", "clip", "--data", shapes, "--out", tmp_path / "run", *settings, "--loader.held_out", 0.01)
    assert said.code == 0 and "nothing was judged: none of the few values of 'creator'" in said.err
    assert "held out" not in said.out


def test_an_interrupted_run_says_so_and_fails(
    call: Call, shapes: Path, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", "clip", "--data", shapes, "--out", tmp_path / "run", *settings, "--loader.held_out", 0.3)
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__enter__", lambda self: setattr(self, "wanted", True) or self)  # as Ctrl-C does
        said = call(*words)
    assert said.code == 1 and "interrupted at step 1; the same command goes on from there" in said.err
    assert not (tmp_path / "run" / "model").exists()
    assert call(*words, "--json").json["steps"] == 6


def test_of_several_processes_one_speaks(
    call: Call, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("data", "import", pictures, "--to", tmp_path / "shapes")
    assert "recognised" in call(*words).err
    monkeypatch.setenv("RANK", "1")
    assert "recognised" not in call(*words).err


# ---------------------------------------------------------------- list and doctor


def test_list(call: Call) -> None:
    everything = call("list").out
    for word in ("clip", "lit", "asif", "clipart", "pocket", "made on first use"):
        assert word in everything
    families = {row["family"]: row for row in call("list", "families", "--json").json}
    assert set(families) == set(models.FAMILIES) and families["lit"]["presets"] == ["Lu", "LU", "Uu", "uu"]
    assert call("list", "everything").code == 2


def test_doctor_gives_a_verdict(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "index_reachable", lambda: False)
    said = call("doctor", "--json")
    assert said.code == 0 and said.json["torch"] == torch.__version__ and said.json["problems"] == []
    assert said.json["pocket"].startswith("made on first use") and "package index" in said.json["verdict"]
    real = doctor.version

    def without_transformers(name: str) -> str:
        if name == "transformers":
            raise doctor.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor, "version", without_transformers)
    said = call("doctor")
    assert said.code == 1 and "verdict: transformers is not installed" in said.out


def test_doctor_survives_without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.sys, "executable", "/no/such/python")
    assert doctor.index_reachable() is False
    assert [doctor.size(n) for n in (7, 1500, 2.5e6, 3e12)] == ["7 bytes", "2 KB", "2 MB", "3.0 TB"]


# ---------------------------------------------------------------- demo


def test_demo_is_told_where_and_how(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diptych.cli import demo, terminal

    asked, shown = [], []

    def run(out: Path, **options: object) -> Path:
        asked.append((out, options))
        return out / "report.html"

    monkeypatch.setattr(demo, "demo", run)
    monkeypatch.setattr(terminal, "browse", shown.append)
    said = call("demo", "--out", tmp_path, "--seed", 3, "--open")
    assert said.code == 0 and said.out.strip() == str(tmp_path / "report.html")
    assert asked == [(tmp_path, {"seed": 3, "device": "auto"})] and shown == [tmp_path / "report.html"]
