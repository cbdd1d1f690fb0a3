"""What tests of formats share: a public layout by its name, made of a few small files."""

import fixtures_annotations
import public_layouts
import pytest


@pytest.fixture
def layout(tmp_path):
    """A function that makes one of the layouts and gives its folder."""
    layouts = public_layouts.LAYOUTS | fixtures_annotations.LAYOUTS

    def make(name):
        layouts[name][1](tmp_path / name)
        return tmp_path / name

    return make
