"""What a person sees of a run."""

import io

import pytest
from rich.console import Console

from diptych.training.progress import Display, clock
from diptych.training.run import Event

EVENTS = [
    Event("start", 0, 0.0, "training from the start for 10 steps"),
    Event("note", 0, 0.0, "visual [frozen]: 3 tensors"),
    Event("log", 5, 0.5, values={"loss": 1.25, "samples_per_second": 120.4}),
    Event("warning", 5, 0.5, "Step 5: nothing is learnt"),
    Event("evaluate", 5, 0.5, values={"retrieval/i2t_r@1": 0.1234567}),
    Event("log", 10, 1.0, values={"loss": 0.5, "samples_per_second": 100.0}),
    Event("end", 10, 1.0, "10 steps: finished"),
]


def shown(show, terminal, seconds=0.0):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200)
    display = Display(show, console, seconds=seconds)
    for event in EVENTS:
        display(event)
    assert display._bar is None
    return console.file.getvalue()


def test_plain_lines_where_there_is_no_terminal():
    text = shown("auto", terminal=False)
    assert "\x1b" not in text
    assert text.splitlines() == [
        "training from the start for 10 steps",
        "visual [frozen]: 3 tensors",
        "step 5 (50%), loss 1.2500, 120 samples/s, 0:00 left",
        "Step 5: nothing is learnt",
        "step 5: retrieval/i2t_r@1 0.1235",
        "step 10 (100%), loss 0.5000, 100 samples/s, 0:00 left",
        "10 steps: finished",
    ]


def test_plain_lines_keep_their_distance_but_the_last_is_shown():
    lines = [line for line in shown("plain", False, seconds=1e6).splitlines() if "loss" in line]
    assert [line.split(" (")[0] for line in lines] == ["step 5", "step 10"]


def test_a_live_line_on_a_terminal():
    text = shown("auto", terminal=True)
    assert "\x1b" in text
    assert "loss 1.2500, 120 samples/s" in text
    assert "Step 5: nothing is learnt" in text


def test_silence():
    assert shown("silent", terminal=True) == ""


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (42, "0:42"), (725, "12:05"), (12000, "3:20:00")])
def test_clock(seconds, text):
    assert clock(seconds) == text
