"""Report collections: Open-i's XML, MIMIC-CXR's tree, DICOM pictures, and files that mean harm."""

import gzip
import io
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from fixtures_annotations import kept_and_rejected as kept
from fixtures_annotations import mimic, openi, openi_report, picture, text
from PIL import Image
from pydicom.dataset import Dataset as Dicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from diptych.data import open_dataset
from diptych.data.formats.dicom import to_png
from diptych.data.formats.records import BadRow
from diptych.data.formats.reports import parts
from diptych.images import decode


@pytest.fixture
def iu(tmp_path):
    openi(tmp_path / "openi")
    return tmp_path / "openi"


@pytest.fixture
def tree(tmp_path):
    mimic(tmp_path / "mimic")
    return tmp_path / "mimic"


# ---------------------------------------------------------------- Open-i


def test_an_openi_report(iu):
    one, two = open_dataset(iu)
    assert (one.id, one.captions, one.tags) == ("CXR1", ["Normal chest x-XXXX."], ["Cardiomegaly/mild"])
    assert one.texts == {
        "comparison": "None.",
        "indication": "Positive TB test",
        "findings": "The cardiac silhouette is normal.",
        "impression": "Normal chest x-XXXX.",
    }
    assert [image.path for image in one.images] == [
        "NLMCXR_png/CXR1_1_IM-0001-3001.png",
        "NLMCXR_png/CXR1_1_IM-0001-4001.png",
    ]
    assert one.license == "http://creativecommons.org/licenses/by-nc-nd/4.0/" and one.source == "Indiana University"
    assert two.captions == ["The cardiac silhouette is normal."] and "impression" not in two.texts


def test_xml_files_in_the_folder_itself(tmp_path):
    picture(tmp_path / "flat" / "CXR7_IM-1.png")
    text(tmp_path / "flat" / "7.xml", openi_report(7, "Clear.", "CXR7_IM-1"))
    assert open_dataset(tmp_path / "flat")[0].captions == ["Clear."]


def test_bad_openi_reports_are_counted(iu):
    folder = iu / "ecgen-radiology"
    text(folder / "3.xml", openi_report(3, "No picture."))
    text(folder / "4.xml", openi_report(4, "A picture that is gone.", "CXR4_1_IM-0001"))
    whole = (folder / "1.xml").read_text()
    text(folder / "5.xml", whole[: len(whole) // 2])
    text(folder / "6.xml", whole.replace("utf-8", "klingon"))
    ids, bad = kept(iu)
    assert ids == ["CXR1", "CXR2"]
    assert bad == {
        "ecgen-radiology/3.xml": "image missing",
        "ecgen-radiology/4.xml": "image missing",
        "ecgen-radiology/5.xml": "report broken",
        "ecgen-radiology/6.xml": "report broken",
    }


BOMB = '<!DOCTYPE x [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 20}">' for a, b in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize("entity", [BOMB, '<!DOCTYPE x [<!ENTITY i SYSTEM "file:///etc/hostname">'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_never_followed(iu, entity, encoding):
    report = openi_report(1, "&i;", "CXR1_1_IM-0001-3001").replace("<eCitation>", f"{entity}]>\n<eCitation>")
    (iu / "ecgen-radiology" / "9.xml").write_bytes(report.replace("utf-8", encoding).encode(encoding))
    ids, bad = kept(iu)
    assert ids == ["CXR1", "CXR2"] and bad == {"ecgen-radiology/9.xml": "report broken"}


# ---------------------------------------------------------------- MIMIC-CXR


def test_a_mimic_study(tree):
    one, two = open_dataset(tree)
    assert (one.id, one.group, one.split) == ("s50414267", "p10000032", "train")
    assert one.captions == ["No acute cardiopulmonary process."]
    assert one.texts["findings"] == "There is no focal consolidation, pleural effusion or pneumothorax."
    assert one.texts["indication"] == "___F with new onset ascites // eval for infection"
    assert one.texts["report"].startswith("FINAL REPORT") and len(one.images) == 2
    assert (two.id, two.group, two.split, two.captions) == ("s53189527", "p10000032", "validation", [])
    assert two.texts["report"].endswith("Lines in place.")  # neither findings nor impression: no caption is made up


def test_the_parts_of_a_report():
    assert parts("FINDINGS AND IMPRESSION: Clear.\n") == {"findings": "Clear.", "impression": "Clear."}
    assert parts("IMPRESSIONS:\n 1. One.\n 2. Two: at 10:30.\n CONCLUSION: Three.") == {
        "impression": "1. One. 2. Two: at 10:30. Three."
    }
    assert parts("Findings: not a heading. FINDINGS: neither, within a line.") == {}
    assert parts("") == {} == parts("FINDINGS:\n\n")


def test_bad_mimic_studies_are_counted(tree):
    patient = tree / "files" / "p10" / "p10000032"
    text(patient / "s3.txt", "not a study")
    text(patient / "s50000001.txt", "IMPRESSION: Without a picture.")
    picture(patient / "s50000002" / "a.jpg")
    for n, data in ((3, b" \n"), (4, b"IMPRESSION: caf\xe9"), (5, b"x" * (1 << 24) + b"y")):
        picture(patient / f"s5000000{n}" / "a.jpg")
        (patient / f"s5000000{n}.txt").write_bytes(data)
    text(patient / "s50000006.txt", "IMPRESSION: One picture of two is broken.")
    picture(patient / "s50000006" / "a.jpg")
    text(patient / "s50000006" / "b.jpg", "GIF89a")
    ids, bad = kept(tree)
    assert ids == ["s50414267", "s53189527"]
    assert bad == {
        "s50000001": "image missing",
        "s50000002": "report missing",
        "s50000003": "caption empty",
        "s50000004": "caption not UTF-8",
        "s50000005": "report broken",
        "s50000006": "image truncated",
    }


def test_the_table_of_splits(tree):
    table = tree / "mimic-cxr-2.0.0-split.csv"
    with gzip.open(f"{table}.gz", "wt") as file:
        file.write(table.read_text().replace("train", "test"))
    assert [sample.split for sample in open_dataset(tree)] == ["test", "validation"]
    (tree / "mimic-cxr-2.0.0-split.csv.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(Exception, match="expected a table with study_id and split"):
        open_dataset(tree)
    (tree / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    text(table, "a,b\n1,2\n")
    with pytest.raises(Exception, match="expected a table with study_id and split"):
        open_dataset(tree)


# ---------------------------------------------------------------- DICOM


def dicom(pixels, **changes):
    """A DICOM file as a scanner writes it, patient and all."""
    data = Dicom()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.PatientName, data.PatientID, data.PatientBirthDate = "Doe^Jane", "MRN-4711", "19700101"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes()
    for name, value in changes.items():
        setattr(data, name, value)
    data.HighBit = data.BitsStored - 1
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, data, enforce_file_format=True)
    return stream.getvalue()


def png(tmp_path, pixels, **changes):
    (tmp_path / "x.dcm").write_bytes(dicom(pixels, **changes))
    data = to_png(tmp_path / "x.dcm")
    return np.asarray(Image.open(io.BytesIO(data))), data


RAMP = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)


def test_grey_of_8_bits_is_stretched_to_its_own_extremes_without_a_window(tmp_path):
    assert np.array_equal(png(tmp_path, RAMP)[0], RAMP)
    found, _ = png(tmp_path, RAMP // 2 + 20)
    assert found.dtype == np.uint8 and (found.min(), found.max()) == (0, 255)


def test_monochrome1_is_inverted(tmp_path):
    assert np.array_equal(png(tmp_path, RAMP, PhotometricInterpretation="MONOCHROME1")[0], 255 - RAMP)


def test_window_and_rescale_by_the_standards_formula(tmp_path):
    stored = np.linspace(0, 4095, 256).astype(np.uint16).reshape(16, 16)
    slope, intercept, centre, width = 1.0, -1024.0, 40.0, 400.0
    found, _ = png(
        tmp_path,
        stored,
        BitsStored=12,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=centre,
        WindowWidth=width,
    )
    units = stored * slope + intercept  # PS3.3 C.11.2.1.2.1 with an output from 0 to 1:
    expected = np.clip((units - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    assert found.dtype == np.uint16 and np.abs(found - expected * 65535).max() <= 1
    assert (found == 0).any() and (found == 65535).any()
    eight = np.asarray(decode(to_png(tmp_path / "x.dcm")))[:, :, 0]
    assert np.abs(eight - expected * 255).max() <= 1


def test_a_table_of_values(tmp_path):
    table = Dicom()
    table.LUTDescriptor, table.LUTData = [256, 0, 8], [255 - n for n in range(256)]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    assert np.array_equal(png(tmp_path, RAMP, VOILUTSequence=[table])[0], 255 - RAMP)


def test_colours_and_several_frames(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    rgb = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    assert np.array_equal(png(tmp_path, colours, **rgb)[0], colours)
    frames = np.stack([RAMP, RAMP[::-1]])
    found, _ = png(tmp_path, RAMP, NumberOfFrames=2, PixelData=frames.tobytes())
    assert np.array_equal(found, RAMP)


def test_dicom_studies_keep_nothing_of_the_patient(tmp_path):
    study = tmp_path / "mimic" / "files" / "p10" / "p10000032"
    text(study / "s50414267.txt", "IMPRESSION: Clear.")
    (study / "s50414267").mkdir()
    (study / "s50414267" / "a.dcm").write_bytes(dicom(RAMP))
    (study / "s50414267" / "b.dcm").write_bytes(dicom(RAMP, PhotometricInterpretation="MONOCHROME1"))
    dataset = open_dataset(tmp_path / "mimic")
    (sample,) = dataset
    assert [np.asarray(decode(image.data))[3, 2].tolist() for image in sample.images] == [[50] * 3, [205] * 3]
    kept_of_it = repr(sample)  # the bytes of its pictures included
    assert "50414267" in kept_of_it and "PNG" in kept_of_it
    assert not any(word in kept_of_it for word in ("Doe", "MRN-4711", "19700101"))


def test_openi_as_dicom(tmp_path):
    (tmp_path / "iu" / "NLMCXR_dcm" / "1").mkdir(parents=True)
    (tmp_path / "iu" / "NLMCXR_dcm" / "1" / "1_IM-0001-3001.dcm").write_bytes(dicom(RAMP))
    text(tmp_path / "iu" / "ecgen-radiology" / "1.xml", openi_report(1, "Clear.", "CXR1_1_IM-0001-3001"))
    assert open_dataset(tmp_path / "iu")[0].images[0].path == "NLMCXR_dcm/1/1_IM-0001-3001.dcm"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "image not recognised"),
        (b"GIF89a, no DICOM", "image not recognised"),
        (dicom(RAMP)[:-100], "image corrupt"),
        (dicom(RAMP)[:300], "image (corrupt|empty)"),
        (dicom(RAMP, Rows=60_000, Columns=60_000), "image too large"),
        (dicom(RAMP, BitsAllocated=7), "image corrupt"),
    ],
)
def test_bad_dicom_files_are_rejected(tmp_path, data, reason):
    (tmp_path / "x.dcm").write_bytes(data)
    with pytest.raises(BadRow, match=reason):
        to_png(tmp_path / "x.dcm")


def test_without_pydicom_one_sentence_names_the_extra(tmp_path):
    study = tmp_path / "mimic" / "files" / "p10" / "p10000032"
    text(study / "s50414267.txt", "IMPRESSION: Clear.")
    (study / "s50414267").mkdir()
    (study / "s50414267" / "a.dcm").write_bytes(dicom(RAMP))
    script = (
        "import sys; sys.modules['pydicom'] = None\n"
        "from diptych.data import open_dataset\n"
        "try: open_dataset(sys.argv[1])\n"
        "except ValueError as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "mimic")], capture_output=True, text=True)
    assert done.stdout.strip() == 'InputError DICOM pictures need pydicom: pip install "diptych[medical]"', done.stderr
