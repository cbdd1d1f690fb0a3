"""Small data sets of annotated pictures in the layouts in which the real ones are published."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from public_layouts import dump

WIDTH, HEIGHT = 20, 12
LICENSES = [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution License"}]


def picture(place: Path, seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG" if place.suffix == ".png" else "JPEG")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(stream.getvalue())
    return stream.getvalue()


def text(place: Path, value: str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(value)
    return place


def edit(place: Path, change: Any) -> None:
    """Change the contents of a JSON file by a function."""
    value = json.loads(place.read_text())
    change(value)
    place.write_text(json.dumps(value))


# ---------------------------------------------------------------- COCO


def block(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    pixels = np.zeros((HEIGHT, WIDTH), dtype=bool)
    pixels[y0:y1, x0:x1] = True
    return pixels


def runs(pixels: np.ndarray) -> list[int]:
    """COCO's uncompressed runs, the plain way: down the columns, outside first."""
    found, inside = [0], False
    for value in pixels.T.reshape(-1):
        if bool(value) != inside:
            found.append(0)
            inside = not inside
        found[-1] += 1
    return found


def coco_images(split: str, *ids: int) -> list[dict[str, Any]]:
    return [
        {
            "license": 4,
            "file_name": f"{id:012d}.jpg",
            "coco_url": f"http://images.cocodataset.org/{split}/{id:012d}.jpg",
            "height": HEIGHT,
            "width": WIDTH,
            "date_captured": "2013-11-14 11:18:45",
            "flickr_url": f"http://farm7.staticflickr.com/6116/{id}_02bbd84625_z.jpg",
            "id": id,
        }
        for id in ids
    ]


CATEGORIES = [
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "animal", "id": 18, "name": "dog"},
]


def coco(root: Path) -> None:
    """val2017 with objects (polygon, uncompressed and compressed runs) and captions, train2017 with captions."""
    from pycocotools import mask as coco_mask

    compressed = coco_mask.encode(np.asfortranarray(block(1, 1, 3, 4).astype(np.uint8)))
    instances = [
        {
            "segmentation": [[2, 1, 6, 1, 6, 5, 2, 5], [10, 2, 13, 2, 13, 6, 10, 6]],
            "area": 28.0,
            "iscrowd": 0,
            "image_id": 139,
            "bbox": [2.0, 1.0, 11.0, 5.0],
            "category_id": 18,
            "id": 1768,
        },
        {
            "segmentation": {"counts": runs(block(5, 3, 19, 11)), "size": [HEIGHT, WIDTH]},
            "area": 112,
            "iscrowd": 1,
            "image_id": 139,
            "bbox": [5, 3, 14, 8],
            "category_id": 1,
            "id": 900100000139,
        },
        {
            "segmentation": {"counts": compressed["counts"].decode(), "size": [HEIGHT, WIDTH]},
            "area": 6,
            "iscrowd": 0,
            "image_id": 285,
            "bbox": [1.25, 1.1, 1.75, 2.9],
            "category_id": 1,
            "id": 7,
        },
    ]
    captions = [
        {"image_id": 285, "id": 37, "caption": "A bear looks at the camera."},
        {"image_id": 139, "id": 38, "caption": "A dog before a crowd.\n"},
        {"image_id": 139, "id": 39, "caption": "People watch a dog."},
    ]
    common = {"info": {"year": 2017, "description": "COCO 2017 Dataset"}, "licenses": LICENSES}
    images = coco_images("val2017", 139, 285, 632)
    for image in images:
        picture(root / "val2017" / image["file_name"], image["id"])
    tables = common | {"images": images, "annotations": instances, "categories": CATEGORIES}
    dump(root / "annotations" / "instances_val2017.json", tables)
    dump(root / "annotations" / "captions_val2017.json", common | {"images": images, "annotations": captions})
    dump(root / "annotations" / "person_keypoints_val2017.json", tables)
    train = coco_images("train2017", 9)
    picture(root / "train2017" / train[0]["file_name"], 9)
    caption = {"image_id": 9, "id": 661611, "caption": "Meal trays."}
    dump(root / "annotations" / "captions_train2017.json", common | {"images": train, "annotations": [caption]})


def panoptic(root: Path) -> None:
    """Two pictures: a dog (id 8345 = 0x2099) and a crowd (70000) on grass (3); and one of grass alone."""
    segments = np.full((HEIGHT, WIDTH), 3)
    segments[1:5, 2:6] = 8345
    segments[6:9, 8:20] = 70000
    segments[11] = 0
    maps = {139: segments, 285: np.full((HEIGHT, WIDTH), 3)}
    infos = {
        139: [
            {"id": 8345, "category_id": 18, "iscrowd": 0, "bbox": [2, 1, 4, 4], "area": 16},
            {"id": 70000, "category_id": 1, "iscrowd": 1, "bbox": [8, 6, 12, 3], "area": 36},
            {"id": 3, "category_id": 125, "iscrowd": 0, "bbox": [0, 0, 20, 11], "area": 168},
        ],
        285: [{"id": 3, "category_id": 125, "iscrowd": 0, "bbox": [0, 0, 20, 12], "area": 240}],
    }
    things = [category | {"isthing": 1} for category in CATEGORIES]
    stuff = {"supercategory": "plant", "isthing": 0, "id": 125, "name": "grass"}
    annotations = []
    for id, pixels in maps.items():
        colours = np.stack([pixels % 256, pixels // 256 % 256, pixels // 65536], -1).astype(np.uint8)
        place = root / "annotations" / "panoptic_val2017" / f"{id:012d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colours).save(place)
        picture(root / "val2017" / f"{id:012d}.jpg", id)
        annotations.append({"segments_info": infos[id], "file_name": place.name, "image_id": id})
    content = {
        "info": {},
        "licenses": LICENSES,
        "images": coco_images("val2017", *maps),
        "annotations": annotations,
        "categories": [*things, stuff],
    }
    dump(root / "annotations" / "panoptic_val2017.json", content)


# ---------------------------------------------------------------- Karpathy


def karpathy_coco(root: Path) -> None:
    images = []
    for i, (folder, split) in enumerate(
        (("val2014", "test"), ("val2014", "restval"), ("val2014", "val"), ("train2014", "train"))
    ):
        name = f"COCO_{folder}_{391895 + i:012d}.jpg"
        picture(root / folder / name, i)
        sentences = [
            {"tokens": ["a", "man"], "raw": f"A man, number {i}.", "imgid": i, "sentid": 770337 + i},
            {"tokens": ["a", "person"], "raw": f"A person, number {i}. ", "imgid": i, "sentid": 771687 + i},
        ]
        images.append(
            {
                "filepath": folder,
                "sentids": [s["sentid"] for s in sentences],
                "filename": name,
                "imgid": i,
                "split": split,
                "sentences": sentences,
                "cocoid": 391895 + i,
            }
        )
    dump(root / "dataset_coco.json", {"images": images, "dataset": "coco"})


def karpathy_flickr(root: Path) -> None:
    name = "1000092795.jpg"
    picture(root / "flickr30k-images" / name)
    sentence = {"tokens": ["two", "young", "guys"], "raw": "Two young guys.", "imgid": 0, "sentid": 0}
    image = {"sentids": [0], "imgid": 0, "sentences": [sentence], "split": "train", "filename": name}
    dump(root / "dataset_flickr30k.json", {"images": [image], "dataset": "flickr30k"})


# ---------------------------------------------------------------- Visual Genome


def vg_object(id: int, name: str, x: int, y: int, w: int, h: int, plural: bool = True) -> dict[str, Any]:
    names = {"names": [name]} if plural else {"name": name}
    return {"synsets": [f"{name}.n.01"], "h": h, "object_id": id, "w": w, "y": y, "x": x} | names


def visual_genome(root: Path) -> None:
    for folder, id in (("VG_100K_2", 1), ("VG_100K", 2)):
        picture(root / folder / f"{id}.jpg", id)
    data = [
        {
            "width": WIDTH,
            "url": f"https://cs.stanford.edu/people/rak248/{folder}/{id}.jpg",
            "height": HEIGHT,
            "image_id": id,
            "coco_id": coco_id,
            "flickr_id": None,
        }
        for folder, id, coco_id in (("VG_100K_2", 1, None), ("VG_100K", 2, 391895))
    ]
    clock, shade = vg_object(1058498, "clock", 2, 1, 4, 5), vg_object(5045, "shade", 0, 0, 9, 9)
    street = vg_object(1058534, "sidewalk", 1, 6, 18, 6) | {"merged_object_ids": [5046]}
    man = vg_object(1023838, "man", 3, 3, 5, 5)
    relation = {
        "predicate": "ON",
        "object": vg_object(1058534, "sidewalk", 1, 6, 18, 6, plural=False),
        "relationship_id": 15927,
        "synsets": ["along.r.01"],
        "subject": vg_object(5045, "shade", 0, 0, 9, 9, plural=False),
    }
    attributes = [clock | {"attributes": ["green", " tall", "green"]}, shade | {}, street | {"attributes": ["grey"]}]
    region = {"region_id": 1382, "width": 4, "height": 5, "image_id": 1, "phrase": "the clock is green", "y": 1, "x": 2}
    question = {"a_objects": [], "question": "What color is the clock?", "image_id": 1, "qa_id": 986768}
    graph = {
        "image_id": 1,
        "objects": [clock, shade, street],
        "relationships": [
            {"predicate": "ON", "object_id": 1058534, "relationship_id": 15927, "synsets": [], "subject_id": 5045},
            {"predicate": "near", "object_id": 5046, "relationship_id": 15928, "synsets": [], "subject_id": 1058498},
        ],
    }
    dump(root / "image_data.json", data)
    dump(root / "objects.json", [{"image_id": 1, "objects": [clock, street]}, {"image_id": 2, "objects": [man]}])
    dump(root / "attributes.json", [{"image_id": 1, "attributes": attributes}])
    dump(root / "relationships.json", [{"relationships": [relation], "image_id": 1}])
    dump(root / "region_descriptions.json", [{"regions": [region], "id": 1}, {"regions": [], "id": 2}])
    dump(root / "question_answers.json", [{"id": 1, "qas": [question | {"answer": "Green.", "q_objects": []}]}])
    dump(root / "scene_graphs.json", [graph])


# ---------------------------------------------------------------- ImageNet


def imagenet(root: Path) -> None:
    for i, wnid in enumerate(("n01440764", "n02012849", "n03126707")):
        picture(root / "train" / wnid / f"{wnid}_1002{i}.JPEG", i)
        picture(root / "val" / wnid / f"ILSVRC2012_val_0000029{i}.JPEG", 10 + i)
    picture(root / "test" / "ILSVRC2012_test_00000001.JPEG", 20)
    mapping = "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\nn99999999 unused\n"
    text(root / "LOC_synset_mapping.txt", mapping)


def imagenet_kaggle(root: Path) -> None:
    """Flat val, labels in a table, three folders down."""
    base = root / "ILSVRC" / "Data" / "CLS-LOC"
    picture(base / "train" / "n01440764" / "n01440764_18.JPEG", 1)
    picture(base / "val" / "ILSVRC2012_val_00048981.JPEG", 2)
    picture(base / "val" / "ILSVRC2012_val_00037956.JPEG", 3)
    text(root / "LOC_synset_mapping.txt", "n01440764 tench, Tinca tinca\nn03995372 power drill\n")
    rows = (
        "ImageId,PredictionString",
        "ILSVRC2012_val_00048981,n03995372 85 1 499 272 ",
        "ILSVRC2012_val_00037956,n01440764 1 2 3 4 n01440764 5 6 7 8 ",
    )
    text(root / "LOC_val_solution.csv", "\n".join(rows) + "\n")


# ---------------------------------------------------------------- reports

OPENI = """<?xml version="1.0" encoding="utf-8"?>
<eCitation>
   <meta type="rr"/>
   <uId id="CXR{n}"/>
   <pmcId id="{n}"/>
   <docSource>CXR</docSource>
   <licenseType>open-access</licenseType>
   <licenseURL>http://creativecommons.org/licenses/by-nc-nd/4.0/</licenseURL>
   <publisher>Indiana University</publisher>
   <MedlineCitation Owner="Indiana University" Status="supplied by publisher">
      <Article PubModel="Electronic">
         <ArticleTitle>Indiana University Chest X-ray Collection</ArticleTitle>
         <Abstract>
            <AbstractText Label="COMPARISON">None.</AbstractText>
            <AbstractText Label="INDICATION">Positive TB test</AbstractText>
            <AbstractText Label="FINDINGS">The cardiac silhouette is
               normal.</AbstractText>
            <AbstractText Label="IMPRESSION">{impression}</AbstractText>
         </Abstract>
      </Article>
   </MedlineCitation>
   <MeSH><major>Cardiomegaly/mild</major><automatic>heart</automatic></MeSH>
   {images}
</eCitation>
"""


def openi_report(n: int, impression: str, *names: str) -> str:
    images = "\n".join(f'<parentImage id="{name}"><figureId>F1</figureId></parentImage>' for name in names)
    return OPENI.format(n=n, impression=impression, images=images)


def openi(root: Path) -> None:
    names = ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001", "CXR2_IM-0652-1001")
    for i, name in enumerate(names):
        picture(root / "NLMCXR_png" / f"{name}.png", i)
    text(root / "ecgen-radiology" / "1.xml", openi_report(1, "Normal chest x-XXXX.", *names[:2]))
    text(root / "ecgen-radiology" / "2.xml", openi_report(2, "", names[2]))


MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with new onset ascites  // eval for infection

 COMPARISON:  None.

 FINDINGS:

 There is no focal consolidation, pleural effusion or
 pneumothorax.

 IMPRESSION:

 No acute cardiopulmonary process.
"""


def mimic(root: Path) -> None:
    patient = root / "files" / "p10" / "p10000032"
    text(patient / "s50414267.txt", MIMIC)
    text(patient / "s53189527.txt", "FINAL REPORT\n CHEST, AP:  Lines in place.\n")
    for i, name in enumerate(("02aa804e-bde0afdd", "174413ec-4ec4c1f7")):
        picture(patient / "s50414267" / f"{name}.jpg", i)
    picture(patient / "s53189527" / "2a2277a9-b0ded155.jpg", 3)
    rows = (
        "dicom_id,study_id,subject_id,split\n02aa804e-bde0afdd,50414267,10000032,train\n2a,53189527,10000032,validate\n"
    )
    text(root / "mimic-cxr-2.0.0-split.csv", rows)


LAYOUTS = {
    "coco": ("coco", coco),
    "panoptic": ("coco-panoptic", panoptic),
    "karpathy_coco": ("karpathy", karpathy_coco),
    "karpathy_flickr": ("karpathy", karpathy_flickr),
    "visual_genome": ("visual-genome", visual_genome),
    "imagenet": ("imagenet", imagenet),
    "imagenet_kaggle": ("imagenet", imagenet_kaggle),
    "openi": ("reports", openi),
    "mimic": ("reports", mimic),
}
"""Layout -> (the format it belongs to, what makes it)."""


def kept_and_rejected(source: Any) -> tuple[list[str], dict[str, str]]:
    """(ids of what survives, id -> reason of what does not)."""
    from diptych.data import open_dataset

    dataset = open_dataset(source)
    return dataset.ids, {row.id: row.reason for row in dataset.quarantine()}
