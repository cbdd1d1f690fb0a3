"""ImageNet (ILSVRC): pictures in folders named by WordNet ids, in ROOT, ROOT/Data/CLS-LOC or ROOT/ILSVRC/Data/CLS-LOC.

    train/n01440764/n01440764_10026.JPEG
    val/n01440764/ILSVRC2012_val_00000293.JPEG       or flat: val/ILSVRC2012_val_00000001.JPEG
    test/ILSVRC2012_test_00000001.JPEG               no labels

Names come from LOC_synset_mapping.txt, synset_words.txt or words.txt in ROOT ("n01440764 tench, Tinca tinca"). The
label is the first noun, the tags hold the WordNet id, texts.synset all nouns. A noun that two classes of the folder
share ("crane") gets the id behind it: "crane (n02012849)". Without such a file the 1000 classes of ImageNet-1k have
their names all the same; the label of any other is its WordNet id.

The labels of a flat `val` come from LOC_val_solution.csv, from imagenet_2012_validation_synset_labels.txt (an id a
line) or from ILSVRC2012_validation_ground_truth.txt, a class number a line. Those numbers follow an order of the
development kit's own, not that of the sorted ids: map_clsloc.txt of a later kit has it ("n02119789 1 kit_fox"), or the
option `classes` names a file whose line k begins with the id of class k.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from diptych.data.formats.image_folder import IMAGE_SUFFIXES
from diptych.data.formats.places import below
from diptych.data.formats.rows import SPLITS, Row, Rows
from diptych.imagenet import imagenet_classes
from diptych.types import EncodedImage, InputError, Rejected, Sample

BASES = ("", "Data/CLS-LOC", "ILSVRC/Data/CLS-LOC")
NAMES = ("LOC_synset_mapping.txt", "synset_words.txt", "words.txt")
SOLUTION = "LOC_val_solution.csv"
SYNSETS = "imagenet_2012_validation_synset_labels.txt"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
CLASSES = "map_clsloc.txt"
TEXTS = (*NAMES, SOLUTION, SYNSETS, TRUTH, CLASSES)

WNID = re.compile(r"n\d{8}")
FLAT = re.compile(r"ILSVRC20\d\d_(?:val|test)_(\d{8})", re.IGNORECASE)


class Found(NamedTuple):
    """A picture file. `wnid` is its folder's name, None for one that lies flat in the folder of its split."""

    path: str
    wnid: str | None
    split: str | None


def recognise(path: Path) -> bool:
    """A folder with subfolders named by WordNet ids, by themselves or in train, val, ..., or with a flat val."""
    return path.is_dir() and any(_looks_right(path / base) for base in BASES)


def read(path: Path, *, split: str = "", classes: str = "") -> Rows:
    """All pictures with their classes.

    Args:
        split: only this folder of the first level: "train", "val".
        classes: a file, relative to ROOT, whose line k begins with the WordNet id that the number k of the ground truth
            means.

    Raises:
        InputError: no folder of this kind, or a flat `val` with labels by number and nothing that explains the numbers.
    """
    base = _base(path)
    found = list(_pictures(path / base, split))
    if not found:
        raise InputError(f"{path}: no pictures{f' in the folder {split}' if split else ''}")
    flat = any(wnid is None and of == "validation" for _, wnid, of in found)
    truth = _truth(path, classes) if flat else {}
    nouns = _nouns(path)
    wnids = {wnid for _, wnid, _ in found if wnid} | set(truth.values())
    labels = _labels(wnids, nouns)
    says = f"{len(wnids):,} classes, {sum(wnid in nouns for wnid in wnids):,} with names"
    return Rows(
        f"ImageNet, {len(found):,} pictures, {says}", _rows(found, truth, labels, nouns), len(found), root=path / base
    )


def listing(path: Path, *, split: str = "", classes: str = "") -> Iterator[Path]:
    """The text files at the top and every file of the folders of pictures."""
    yield from (path / name for name in (*TEXTS, classes) if name and (path / name).is_file())
    base = path / _base(path)
    yield from below([base / split] if split else [base])


def _base(path: Path) -> str:
    for base in BASES:
        if _looks_right(path / base):
            return base
    raise InputError(f"{path}: expected folders named by WordNet ids (n01440764), by themselves or in train and val")


def _looks_right(folder: Path) -> bool:
    return _holds(folder, flat=False) or any(_holds(folder / name, flat=True) for name in SPLITS)


def _holds(folder: Path, flat: bool) -> bool:
    """Whether a folder has classes in it or, if `flat`, pictures with ImageNet's own names."""
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:  # ends at the first that fits: a flat val has fifty thousand
        return any(
            WNID.fullmatch(entry.name) and entry.is_dir() or (flat and FLAT.match(entry.name)) for entry in entries
        )


def _pictures(root: Path, only: str) -> Iterator[Found]:
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    for top in [only] if only else folders:
        split = SPLITS.get(top.casefold())
        if split is None and not WNID.fullmatch(top):
            continue
        for file in below([root / top]):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                parts = file.relative_to(root).parts
                inner = parts[1 if split else 0 : -1]
                yield Found("/".join(parts), inner[0] if inner else None, split)


def _rows(found: list[Found], truth: dict[int, str], labels: dict[str, str], nouns: dict[str, str]) -> Iterator[Row]:
    for path, wnid, split in found:
        if wnid is None and split == "validation":
            match = FLAT.match(path.rsplit("/", 1)[-1])
            wnid = truth.get(int(match[1])) if match else None
            if wnid is None and truth:
                yield Rejected(path, "label missing", f"{path}: the ground truth has no line for it")
                continue
        if wnid is not None and not WNID.fullmatch(wnid):
            yield Rejected(path, "label unknown", f"{path}: expected a WordNet id like n01440764, got '{wnid}'")
            continue
        sample = Sample(path.rsplit(".", 1)[0], [EncodedImage(None, path)], split=split, texts={"path": path})
        if wnid is not None:
            sample.label = labels[wnid]
            sample.tags = [wnid]
            if wnid in nouns:
                sample.texts["synset"] = nouns[wnid]
        yield sample


def _labels(wnids: Iterable[str], nouns: dict[str, str]) -> dict[str, str]:
    first = {wnid: nouns.get(wnid, wnid).split(",")[0].strip() for wnid in wnids}
    shared = Counter(first.values())
    return {wnid: f"{noun} ({wnid})" if shared[noun] > 1 else noun for wnid, noun in first.items()}


def _nouns(root: Path) -> dict[str, str]:
    """WordNet id -> all its nouns: as the folder says, or of the 1000 classes that everybody means."""
    for name in NAMES:
        if (root / name).is_file():
            pairs = (re.split(r"[ \t]+", line, maxsplit=1) for line in _lines(root / name))
            return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2 and WNID.fullmatch(pair[0])}
    return {one.wnid: ", ".join(one.nouns) for one in imagenet_classes()}


def _truth(root: Path, classes: str) -> dict[int, str]:
    """Number of a validation picture -> WordNet id; empty where no file says it."""
    if (root / SOLUTION).is_file():
        rows = (row for row in csv.reader(_lines(root / SOLUTION)) if len(row) == 2)
        pairs = ((FLAT.match(name), boxes.split()) for name, boxes in rows)
        return {int(match[1]): boxes[0] for match, boxes in pairs if match and boxes}
    if (root / SYNSETS).is_file():
        return dict(enumerate((line.strip() for line in _lines(root / SYNSETS)), 1))
    if not (root / TRUTH).is_file():
        return {}
    numbered = _numbered(root, classes)
    truth = {}
    for n, line in enumerate(_lines(root / TRUTH), 1):
        if not line.strip().isdecimal() or int(line) not in numbered:
            raise InputError(f"{root / TRUTH}: line {n}: expected a number of a class, got '{line.strip()[:40]}'")
        truth[n] = numbered[int(line)]
    return truth


def _numbered(root: Path, classes: str) -> dict[int, str]:
    """Class number -> WordNet id."""
    file = root / (classes or CLASSES)
    if not file.is_file():
        raise InputError(
            f"{root / TRUTH}: its class numbers follow an order of its own; expected {CLASSES} beside it, or a file "
            f"whose line k begins with the WordNet id of class k (option classes)"
        )
    rows = [line.split() for line in _lines(file) if line.strip()]
    if any(not WNID.fullmatch(row[0]) for row in rows):
        raise InputError(f"{file}: expected lines that begin with a WordNet id like n01440764")
    if classes:
        return {k: row[0] for k, row in enumerate(rows, 1)}
    return {int(row[1]): row[0] for row in rows if len(row) > 1 and row[1].isdecimal()}


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as text: {error}") from None
