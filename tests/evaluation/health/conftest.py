"""The scenes that the planted models know."""

import pytest
from planted import Planted, plant


@pytest.fixture(scope="session")
def planted() -> Planted:
    return plant()
