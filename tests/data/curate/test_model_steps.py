"""Steps that see with a dual encoder, and the balance of concepts."""

from pathlib import Path

import pytest
from curated_rows import COLOURS, Colours, colours, picture, png, write
from PIL import Image

from diptych.data.curate import Plan, run_plan
from diptych.data.curate.balancing import Balance
from diptych.data.curate.with_models import SemanticDuplicates, Similarity
from diptych.types import EncodedImage, InputError, Sample


def plain(colour: str | tuple[int, int, int], size: int = 8) -> bytes:
    """A picture of one colour."""
    return png(Image.new("RGB", (size, size), colour))


def test_captions_that_do_not_fit_go(tmp_path: Path) -> None:
    data = write(
        tmp_path / "d",
        [
            picture("right", plain("red"), "a red thing"),
            picture("half right", plain("blue"), "a green thing", "a blue thing"),
            picture("wrong", plain((10, 200, 10)), "a red thing"),
            picture("no picture", None, "a red thing"),
            picture("broken", b"GIF89a", "a red thing"),
            picture("no caption", plain("red")),
        ],
    )
    plan = Plan((Similarity(model="colours", least=0.5, lowest=0),))
    outcome = run_plan(data, plan, models=colours, work=tmp_path / "work")
    kept = dict(zip(outcome.rows["id"].to_pylist(), outcome.rows["captions"].to_pylist()))
    assert kept == {
        "right": ["a red thing"],
        "half right": ["a blue thing"],
        "no picture": ["a red thing"],
        "broken": ["a red thing"],
        "no caption": [],
    }
    assert outcome.rows["score similarity"].to_pylist() == [1.0, 1.0, None, None, None]
    changed = outcome.report.steps[0]
    assert (changed.rows_before, changed.rows_after, changed.changed) == (6, 5, 2)
    assert {c.before for c in changed.examples} == {"a green thing (0.000) | a blue thing", "a red thing (0.050)"}
    with pytest.raises(InputError, match="names the model 'colours', and no models were given"):
        run_plan(data, plan, work=tmp_path / "work")


def test_several_pictures_are_judged_together(tmp_path: Path) -> None:
    """A caption's cosine is the mean over the pictures that can be read."""

    def several(id: str, *colours: str) -> Sample:
        files = [b"GIF89a" if colour == "broken" else plain(colour) for colour in colours]
        return Sample(id, [EncodedImage(data) for data in files], captions=["a red thing"])

    samples = [
        several("both", "red", "red"),
        several("second is wrong", "red", "blue"),
        several("first is wrong", "blue", "red"),
        several("one can be read", "broken", "red"),
        several("two of three", "red", "green", "red"),
        several("none can be read", "broken", "broken"),
    ]
    data = write(tmp_path / "d", samples)
    plan = Plan((Similarity(model="colours", least=0.6, lowest=0),))
    outcome = run_plan(data, plan, models=colours, work=tmp_path / "work")
    assert outcome.rows["id"].to_pylist() == ["both", "one can be read", "two of three", "none can be read"]
    assert outcome.rows["score similarity"].to_pylist() == pytest.approx([1.0, 1.0, 2 / 3, None])
    dropped = {change.id: change.before for change in outcome.report.steps[0].examples}
    assert dropped == dict.fromkeys(["second is wrong", "first is wrong"], "a red thing (0.500)")


def test_the_lowest_share_is_relative(tmp_path: Path) -> None:
    """Pictures from red to green, all called red: the greenest go, as many as asked for."""
    shades = [plain((255 - 10 * i, 10 * i, 0)) for i in range(20)]
    data = write(tmp_path / "d", [picture(f"{i:02}", shade, "red") for i, shade in enumerate(shades)])
    for share, left in ((0.25, 15), (0.5, 10)):
        plan = Plan((Similarity(model="colours", lowest=share),))
        kept = run_plan(data, plan, models=colours, work=tmp_path / "work").rows["id"].to_pylist()
        assert kept == [f"{i:02}" for i in range(left)]


def test_pictures_that_say_the_same_are_kept_once_and_measured_once(tmp_path: Path) -> None:
    samples = [picture(f"{name} {size}", plain(name, size), "x" * size) for name in COLOURS for size in (4, 9, 6)]
    data = write(tmp_path / "d", [*samples, picture("none", None, "x"), picture("broken", b"", "x")])
    asked = 0

    class Counting(Colours):
        def images(self, pictures):
            nonlocal asked
            asked += len(pictures)
            return super().images(pictures)

    for threshold in (0.9, 0.99):
        plan = Plan((SemanticDuplicates(model="colours", threshold=threshold),))
        outcome = run_plan(data, plan, models=lambda address: Counting(), work=tmp_path / "work")
        assert outcome.rows["id"].to_pylist() == ["red 9", "green 9", "blue 9", "none", "broken"]
        assert asked == 11, "another threshold measures nothing again"


def test_common_concepts_are_thinned_and_rare_ones_stay(tmp_path: Path) -> None:
    entries = tmp_path / "entries.txt"
    entries.write_text("dog\nred\nokapi\n")
    samples = [picture(f"dog {i}", None, "a dog", "the dog, red") for i in range(300)]
    samples += [picture(f"okapi {i}", None, "an okapi") for i in range(5)] + [picture("none", None, "nothing of these")]
    data = write(tmp_path / "d", samples)
    plan = Plan((Balance(entries=str(entries), limit=20),))
    outcome = run_plan(data, plan, work=tmp_path / "work")
    ids = outcome.rows["id"].to_pylist()
    dogs = [id for id in ids if id.startswith("dog")]
    assert ids[len(dogs) :] == [f"okapi {i}" for i in range(5)], "the rare stay, and what names no concept goes"
    assert 20 <= len(dogs) <= 60, "two concepts draw 20 each, on average"
    reversed_ids = write(tmp_path / "r", samples[::-1])
    assert set(run_plan(reversed_ids, plan, work=tmp_path / "work").rows["id"].to_pylist()) == set(ids)
    said = {change.before for change in outcome.report.steps[0].examples}
    assert "no concept" in said or "only common concepts: dog, red" in said
    automatic = run_plan(data, Plan((Balance(entries=str(entries)),)), work=tmp_path / "work").report
    assert "Concepts that more than 300 rows name" in automatic.steps[0].sentence, (
        "6 % of 605 matches are no whole concept"
    )
    entries.write_text("unicorn\n")
    with pytest.raises(InputError, match="none of its concepts is named by any caption"):
        run_plan(data, plan, work=tmp_path / "work")
    with pytest.raises(InputError, match="missing.txt: cannot be read as a list of concepts"):
        run_plan(data, Plan((Balance(entries=str(tmp_path / "missing.txt")),)), work=tmp_path / "work")
