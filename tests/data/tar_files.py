"""Tar files for tests, made by the standard library."""

import io
import tarfile

from PIL import Image


def picture(grey=0, format="JPEG", size=(8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(buffer, format)
    return buffer.getvalue()


def tar(path, members, format=tarfile.GNU_FORMAT):
    """A tar of {name: bytes} or of a list of (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as out:
        for name, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return path


def pairs(count=3, start=0):
    members = {}
    for i in range(start, start + count):
        members |= {f"{i:04d}.jpg": picture(i), f"{i:04d}.txt": f"caption {i}".encode()}
    return members


def rejected(dataset) -> dict[str, str]:
    return {row.id: row.reason for row in dataset.quarantine()}
