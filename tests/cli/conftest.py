"""Runs the command line in this process and keeps what it said."""

from pathlib import Path

import pytest
from said import Call, Said
from shape_world import CLIP_SETTINGS, TINY_CLIP, write_pictures

from diptych.cli import main


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """`call("search", folder, "a cat")` is `diptych search FOLDER "a cat"`."""

    def run(*words: object) -> Said:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 pictures of shapes in two folders with their captions, and one broken file."""
    folder = tmp_path_factory.mktemp("raw") / "shapes"
    write_pictures(folder, count=64, size=24, seed=0)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP that has learnt nothing, saved."""
    from diptych import models
    from diptych.models.clip import CLIP

    return models.save(
        CLIP.new(TINY_CLIP, ["a red circle", "a blue square"]), tmp_path_factory.mktemp("model") / "clip"
    )


@pytest.fixture(scope="session")
def settings() -> list[str]:
    """What makes `diptych train clip` tiny."""
    return [word for name, value in CLIP_SETTINGS.items() for word in (f"--{name}", value)]
