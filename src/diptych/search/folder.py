"""Search any folder of pictures: indexed on first use in the cache, then only what is new, changed or gone."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from diptych.capabilities import DualEncoder
from diptych.images import FORMATS, HEADER_BYTES, looks_like_image
from diptych.paths import cache_dir
from diptych.search.build import embed_into, model_fingerprint
from diptych.search.index import VectorIndex
from diptych.search.locks import only_process
from diptych.search.rows import Where
from diptych.tasks.reading import Progress
from diptych.tasks.retrieve import Hit, embed_queries
from diptych.types import InputError, Rejected

_BAD = "bad.json"


class Picture(NamedTuple):
    """A picture file as it was listed: a change of size or time makes it another one."""

    path: Path
    bytes: int
    mtime_ns: int


class Refresh(NamedTuple):
    """What a refresh found: numbers of pictures, and of those that cannot be read by reason (old ones included)."""

    added: int
    changed: int
    removed: int
    unchanged: int
    rejected: dict[str, int]


class FolderIndex:
    """The pictures of one folder and all below it, as one model sees them.

    Hidden files and folders are left out. An id is the path below the folder, with "/" between its parts; the fields
    are "folder" (where it lies below the folder, "" at the top), "bytes" and "mtime_ns". Files that cannot be read as
    pictures are remembered with the reason and not tried again until they change.
    """

    def __init__(self, folder: str | Path, model: DualEncoder, *, at: str | Path | None = None) -> None:
        """`at` is where the index is kept: by default in the cache, by folder and model.

        Raises `InputError` if `folder` is not a folder.
        """
        self.folder = Path(folder).expanduser().resolve()
        if not self.folder.is_dir():
            raise InputError(f"{folder}: expected a folder of pictures")
        self.model = model
        self._key = model_fingerprint(model)
        name = hashlib.blake2b(os.fsencode(f"{self.folder}\0{self._key}"), digest_size=12).hexdigest()
        self.at = cache_dir() / "folders" / name if at is None else Path(at)
        self._index: VectorIndex | None = None
        self._bad: dict[str, dict[str, Any]] = {}
        self._paths: dict[str, Path] = {}
        self._open()

    def __len__(self) -> int:
        return 0 if self._index is None else len(self._index)

    @property
    def rejected(self) -> list[Rejected]:
        """The files that looked like pictures and could not be read."""
        return [Rejected(id, bad["reason"], bad["detail"]) for id, bad in self._bad.items()]

    def refresh(self, *, batch_size: int = 64, device: str = "auto", progress: Progress | None = None) -> Refresh:
        """Bring the index up to date with the folder. An interrupted refresh keeps what it has done.

        `progress` counts the pictures that are new or changed.
        """
        with only_process(self.at):
            self._open()
            found = list_pictures(self.folder)
            self._paths = {id: picture.path for id, picture in found.items()}
            known = {} if self._index is None else self._index.items()
            self._bad = {id: bad for id, bad in self._bad.items() if _same(found.get(id), bad)}
            gone = [id for id in known if id not in found]
            todo = [id for id in found if id not in self._bad and not _same(found[id], known.get(id))]
            if self._index is not None:
                self._index.delete(gone)

            def keep_bad(rejected: dict[int, Rejected]) -> None:
                for position, (_, reason, detail) in rejected.items():
                    id = todo[position]
                    self._bad[id] = {**_stamp(found[id]), "reason": reason, "detail": detail}
                if self._index is not None:  # of a picture that has become unreadable
                    self._index.delete(list(self._bad))
                self._write_bad()

            self._index = embed_into(
                self._index,
                self.at,
                self.model,
                [found[id].path for id in todo],
                todo,
                [{"folder": id.rpartition("/")[0], **_stamp(found[id])} for id in todo],
                meta={"model": self._key, "folder": _text(str(self.folder))},
                on_save=keep_bad,
                batch_size=batch_size,
                device=device,
                progress=progress,
            )
        changed = sum(id in known and id not in self._bad for id in todo)
        added = sum(id not in known and id not in self._bad for id in todo)
        rejected = Counter(bad["reason"] for bad in self._bad.values())
        removed = sum(id not in self._paths or id in self._bad for id in known)
        return Refresh(added, changed, removed, len(self) - added - changed, dict(rejected))

    def search(
        self, query: Any, k: int = 10, *, exact: bool = False, where: Where | None = None, device: str = "auto"
    ) -> list[Hit]:
        """The `k` best pictures for a text (`str`) or a picture (a `Path`, PIL image, array or bytes), best first.

        `exact` and `where` are those of `VectorIndex.search`. Each hit's fields have the file's full "path" as well.
        """
        if self._index is None:
            return []
        hits = self._index.search(embed_queries(self.model, [query], device=device), k, exact=exact, where=where)[0]
        return [hit._replace(fields={**hit.fields, "path": str(self.path(hit.id))}) for hit in hits]

    def path(self, id: str) -> Path:
        """The file behind an id."""
        return self._paths.get(id, self.folder / id)

    def _open(self) -> None:
        if VectorIndex.exists(self.at):
            index = VectorIndex.open(self.at)
            if index.meta.get("model") != self._key or index.meta.get("folder") != _text(str(self.folder)):
                raise InputError(f"{self.at}: holds an index of another folder or model")
            self._index = index
        try:
            self._bad = json.loads((self.at / _BAD).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # missing, or of a run that died: these files are tried again
            self._bad = {}

    def _write_bad(self) -> None:
        fresh = self.at / f"{_BAD}.new"
        fresh.write_text(json.dumps(self._bad, indent=0), encoding="utf-8")
        fresh.replace(self.at / _BAD)


def search_folder(
    folder: str | Path,
    query: Any,
    model: DualEncoder,
    k: int = 10,
    *,
    where: Where | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Hit]:
    """Refresh the index of `folder` and search it; see `FolderIndex`."""
    index = FolderIndex(folder, model)
    index.refresh(device=device, progress=progress)
    return index.search(query, k, where=where, device=device)


def list_pictures(folder: Path) -> dict[str, Picture]:
    """Every picture in `folder` and below, by its path below it, sorted. Links are followed, no folder is read twice.

    A file is taken for a picture by its suffix, or without a suffix by its first bytes. Hidden names and folders that
    may not be read are left out.
    """
    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    found: dict[str, Picture] = {}
    seen: set[tuple[int, int]] = set()
    waiting = [(folder, "")]
    while waiting:
        here, below = waiting.pop()
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    waiting.append((Path(entry.path), f"{below}{entry.name}/"))
                elif entry.is_file() and _is_picture(entry, suffixes):
                    status = entry.stat()
                    picture = Picture(Path(entry.path), status.st_size, status.st_mtime_ns)
                    found[_text(below + entry.name)] = picture
            except OSError:  # gone since it was listed
                continue
    return dict(sorted(found.items()))


def _is_picture(entry: os.DirEntry[str], suffixes: set[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix:
        return suffix in suffixes
    with open(entry.path, "rb") as file:
        return looks_like_image(file.read(HEADER_BYTES))


def _stamp(picture: Picture) -> dict[str, int]:
    return {"bytes": picture.bytes, "mtime_ns": picture.mtime_ns}


def _same(picture: Picture | None, kept: Any) -> bool:
    """Whether a file is as it was when `kept` (fields, or an entry of the bad ones) was written."""
    return picture is not None and kept is not None and all(kept.get(k) == v for k, v in _stamp(picture).items())


def _text(name: str) -> str:
    """A file name as valid Unicode: bytes that are not UTF-8 are spelt out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
