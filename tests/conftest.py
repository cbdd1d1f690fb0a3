"""What every test shares: shapes that are checked, one thread, no network, and a cache of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Two processes of pytest share two cores, and the models here are so small that a second thread only costs time.
# As variables, and before torch is loaded, they reach the processes that tests start as well.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

# Shapes are types: in these packages beartype checks the jaxtyping annotations of every call as it happens.
# The hook acts while a module is first imported, which is why it stands here and not in a fixture.
TENSOR_PACKAGES = ["blocks", "towers", "objectives", "processing", "models", "tasks"]
install_import_hook([f"diptych.{name}" for name in TENSOR_PACKAGES], "beartype.beartype")

pytest_plugins = ["tiny_towers"]  # fixtures: small pretrained towers on disk


@pytest.fixture(autouse=True, scope="session")
def test_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Tests never touch the user's cache. Gives (the folder that stands in for it, the user's)."""
    from diptych.paths import cache_dir

    own, users = tmp_path_factory.mktemp("cache"), cache_dir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIPTYCH_CACHE", str(own))
        yield own, users


@pytest.fixture(autouse=True)
def downloaded_weights(request: pytest.FixtureRequest, test_cache: tuple[Path, Path]) -> None:
    """Slow tests may use the weights in the user's cache: they are stored by their hash, so sharing is harmless."""
    own, users = (folder / "weights" for folder in test_cache)
    if request.node.get_closest_marker("slow") and not own.is_symlink():
        users.mkdir(parents=True, exist_ok=True)
        own.symlink_to(users)
