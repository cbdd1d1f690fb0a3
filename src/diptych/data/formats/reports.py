"""Collections of medical reports: one sample a study, with its pictures and the parts of its report.

Indiana University's chest X-rays (Open-i; doi:10.1093/jamia/ocv080), one XML file a report:

    ROOT/ecgen-radiology/1.xml, ...           or ROOT/reports/, or XML files in ROOT itself
    ROOT/NLMCXR_png/CXR1_1_IM-0001-3001.png   or anywhere else below ROOT, as PNG, JPEG or DICOM

MIMIC-CXR (arXiv:1901.07042), and collections of that layout:

    ROOT/files/p10/p10000032/s50414267.txt           the report
    ROOT/files/p10/p10000032/s50414267/*.dcm, *.jpg  its pictures
    ROOT/mimic-cxr-2.0.0-split.csv                   optional, also .csv.gz

Each part of a report becomes a side text under its heading in lower case: "findings", "impression", "indication", ...
The caption is the impression, which sums the report up, or the findings where there is none; a report with neither
gives no caption and keeps its text in texts.report. MIMIC's patients become `group`, so that a split can keep all
studies of a patient on one side. DICOM files need the extra `medical`; of their fields only the pixels are used.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.data.formats import dicom
from diptych.data.formats.image_folder import IMAGE_SUFFIXES
from diptych.data.formats.places import below
from diptych.data.formats.records import BadRow, rows_of
from diptych.data.formats.rows import SPLITS, Rows, decode_text, valid
from diptych.types import EncodedImage, InputError, Sample

DICOM_SUFFIXES = (".dcm", ".dicom")
MAX_BYTES = 1 << 24  # of one report
SPLIT_FILES = ("mimic-cxr-2.0.0-split.csv.gz", "mimic-cxr-2.0.0-split.csv")

PATIENT, STUDY = re.compile(r"p\d{8}"), re.compile(r"s\d{8}")
HEADING = re.compile(r"^[ \t]*([A-Z][A-Z /&(),-]{2,60}):", re.MULTILINE)
SAME_AS = {"finding": "findings", "impressions": "impression", "conclusion": "impression"}
BOTH = ("findings and impression", "findings/impression", "impression and findings")


def recognise(path: Path) -> bool:
    """A folder with reports of one of the two layouts."""
    return path.is_dir() and (_is_openi(path) or _is_mimic(path))


def read(path: Path) -> Rows:
    """All studies. Raises `InputError` for another layout, or for DICOM files without pydicom."""
    if not recognise(path):
        raise InputError(f"{path}: expected reports as ecgen-radiology/*.xml or files/p10/p10000032/s50414267.txt")
    files = list(below([path]))
    pictures = [file for file in files if file.suffix.lower() in (*IMAGE_SUFFIXES, *DICOM_SUFFIXES)]
    if any(file.suffix.lower() in DICOM_SUFFIXES for file in pictures):
        dicom.require_pydicom()
    make, records = _openi(path, pictures) if _is_openi(path) else _mimic(path, files, pictures)
    kind = "Open-i" if _is_openi(path) else "MIMIC-CXR's layout"
    found = f"reports in {kind}, {len(records):,} studies, {len(pictures):,} pictures"
    return Rows(found, rows_of(records, make), len(records))


def listing(path: Path) -> Iterator[Path]:
    """Every file of the folder."""
    return below([path])


# ---------------------------------------------------------------- Indiana University, Open-i


def _xml_folder(path: Path) -> Path:
    return next((folder for name in ("ecgen-radiology", "reports") if (folder := path / name).is_dir()), path)


def _is_openi(path: Path) -> bool:
    first = next(_xml_folder(path).glob("*.xml"), None)
    if first is None or not first.is_file():
        return False
    with first.open("rb") as file:
        return b"<eCitation" in file.read(4096)


def _openi(root: Path, pictures: list[Path]) -> tuple[Any, list[tuple[str, Path]]]:
    by_name = {file.stem: file for file in pictures}

    def study(where: str, file: Path) -> Sample:
        tree = _parse(file, where)
        sections = {
            (part.get("Label") or "").strip().lower(): " ".join("".join(part.itertext()).split())
            for part in tree.iter("AbstractText")
        }
        names = [image.get("id") or "" for image in tree.iter("parentImage")]
        if not names:
            raise BadRow("image missing", f"{where}: the report names no picture")
        images = []
        for name in names:
            found = by_name.get(name) or by_name.get(re.sub(r"^CXR\d+_", "", name))  # DICOM files lack the beginning
            if found is None:
                raise BadRow("image missing", f"{where}: no picture {name} below {root.name}")
            images.append(_image(found, root))
        sample = _sample(_attribute(tree, "uId") or where, images, sections, where)
        sample.tags = [term.text.strip() for term in tree.iterfind("MeSH/major") if term.text and term.text.strip()]
        sample.license = _text(tree, "licenseURL") or _text(tree, "licenseType")
        sample.source = _text(tree, "publisher")
        return sample

    files = sorted(_xml_folder(root).glob("*.xml"), key=lambda file: (len(file.name), file.name))  # 2.xml before 10.xml
    return study, [(file.relative_to(root).as_posix(), file) for file in files]


class _NoDoctype(ET.TreeBuilder):
    """Refuses what entity bombs and references to other files need, before the parser gets to them."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise BadRow("report broken", "a document type, which reports do not have, may hide references; not read")


def _parse(file: Path, where: str) -> ET.Element:
    try:
        return ET.fromstring(_read(file, where), ET.XMLParser(target=_NoDoctype()))
    except ET.ParseError as error:
        raise BadRow("report broken", f"{where}: expected XML: {error}") from None
    except (ValueError, LookupError) as error:  # an encoding that does not exist
        raise error if isinstance(error, BadRow) else BadRow("report broken", f"{where}: {error}") from None


def _text(tree: ET.Element, name: str) -> str | None:
    return (tree.findtext(name) or "").strip() or None


def _attribute(tree: ET.Element, name: str) -> str:
    found = tree.find(name)
    return "" if found is None else (found.get("id") or "").strip()


# ---------------------------------------------------------------- MIMIC-CXR


def _is_mimic(path: Path) -> bool:
    for top in (path / "files", path):
        for group in sorted(top.glob("p[0-9][0-9]"))[:1]:
            for patient in sorted(group.glob("p[0-9]*"))[:1]:
                return bool(PATIENT.fullmatch(patient.name)) and any(STUDY.match(one.name) for one in patient.iterdir())
    return False


def _mimic(root: Path, files: list[Path], pictures: list[Path]) -> tuple[Any, list[tuple[str, str]]]:
    reports = {file.stem: file for file in files if file.suffix == ".txt" and STUDY.fullmatch(file.stem)}
    of_study: dict[str, list[Path]] = {}
    for file in pictures:
        if STUDY.fullmatch(file.parent.name):
            of_study.setdefault(file.parent.name, []).append(file)
    splits = _splits(root)

    def study(where: str, name: str) -> Sample:
        if name not in reports:
            raise BadRow("report missing", f"{where}: {len(of_study[name])} pictures without {name}.txt")
        if name not in of_study:
            raise BadRow("image missing", f"{where}: a report without pictures in a folder {name}")
        text = decode_text(_read(reports[name], where))
        if not valid(text):
            raise BadRow("caption not UTF-8", where)
        if not text.strip():
            raise BadRow("caption empty", where)
        sample = _sample(name, [_image(file, root) for file in of_study[name]], parts(text), where)
        sample.texts["report"] = text.strip()
        sample.split = splits.get(name.removeprefix("s"))
        patient = reports[name].parent.name
        sample.group = patient if PATIENT.fullmatch(patient) else None
        return sample

    return study, [(name, name) for name in sorted(reports.keys() | of_study.keys())]


def parts(report: str) -> dict[str, str]:
    """Heading in lower case -> text, of a report whose headings are capitals with a colon ("FINDINGS: ...")."""
    found: dict[str, str] = {}
    marks = [*HEADING.finditer(report)]
    for mark, after in zip(marks, [*(m.start() for m in marks[1:]), len(report)]):
        text = " ".join(report[mark.end() : after].split())
        heading = mark[1].strip().lower()
        for name in ("findings", "impression") if heading in BOTH else (SAME_AS.get(heading, heading),):
            if text:
                found[name] = f"{found[name]} {text}" if name in found else text
    return found


def _splits(root: Path) -> dict[str, str]:
    """Study number -> split, where the table of splits lies in the folder."""
    file = next((root / name for name in SPLIT_FILES if (root / name).is_file()), None)
    if file is None:
        return {}
    named = SPLITS | {"validate": "validation"}
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        return {row["study_id"]: named.get(row["split"], row["split"]) for row in rows}
    except (OSError, EOFError, ValueError, KeyError, csv.Error) as error:
        raise InputError(f"{file}: expected a table with study_id and split: {error}") from None


# ---------------------------------------------------------------- both


def _sample(id: str, images: list[EncodedImage], sections: dict[str, str], where: str) -> Sample:
    texts = {name or "abstract": text for name, text in sections.items() if text}
    caption = texts.get("impression") or texts.get("findings")
    return Sample(id, images, [caption] if caption else [], texts=texts)


def _image(file: Path, root: Path) -> EncodedImage:
    path = file.relative_to(root).as_posix()
    return EncodedImage(dicom.to_png(file) if file.suffix.lower() in DICOM_SUFFIXES else None, path)


def _read(file: Path, where: str) -> bytes:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise BadRow("report broken", f"{where}: more than {MAX_BYTES:,} bytes")
        return file.read_bytes()
    except OSError as error:
        raise BadRow("report broken", f"{where}: {error}") from None
