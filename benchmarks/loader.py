"""How fast data moves: import, random access, loader, each beside the plain way of doing the same in the same run.

    python benchmarks/loader.py [--pictures 400] [--repeats 3]
    python benchmarks/loader.py --shards [--pictures 8000] [--repeats 3]

`--shards` measures tar shards alone: 256-px JPEGs to 224-px uint8 crops with their captions, by Diptych (threads, in
random order) and by webdataset + PIL + DataLoader (its best number of worker processes of 0, 1, 2, in the shards'
order). Both give batches of 64. Needs `webdataset`.

The plain way is one thread: open each file with Pillow, convert, resize, stack; for random access it only reads the
file's bytes, while a sample brings all its fields. Absolute numbers drift with the machine; the ratios are what to
read. Each number is the best of the repeats, and the two ways take turns.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diptych.data import Dataset, import_dataset, open_dataset
from diptych.data.loader import Loader
from diptych.processing.image import ImageConfig, ImageProcessor
from diptych.types import Batch

KINDS = {  # name -> (width, height, format)
    "WebP 128": (128, 128, "WEBP"),
    "JPEG 256": (256, 256, "JPEG"),
    "JPEG 1 MP": (1200, 900, "JPEG"),
    "JPEG 6 MP": (3000, 2000, "JPEG"),
}
SIZE = 224
BATCH = 64


class PicturesOnly:
    """The image half of a processor, so that no tokenizer is measured."""

    def __init__(self) -> None:
        self.decode_image = ImageProcessor(ImageConfig(size=SIZE))

    def collate(self, ids: list[str], images: list[np.ndarray] | None, texts: list[str] | None) -> Batch:
        return Batch(ids=ids, pixels=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))

    def fingerprint(self) -> str:
        return "benchmark"


def make(folder: Path, kind: str, count: int) -> list[Path]:
    """`count` files of smooth noise, which compresses about as photographs do."""
    width, height, format = KINDS[kind]
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(buffer, format, quality=90)
        paths.append(folder / f"{i:05d}.{format.lower()}")
        paths[-1].write_bytes(buffer.getvalue())
    return paths


def plain_import(paths: list[Path]) -> None:
    for path in paths:
        Image.open(path).convert("RGB")


def plain_read(paths: list[Path]) -> None:
    for path in random.Random(0).sample(paths, len(paths)):
        path.read_bytes()


def plain_batches(paths: list[Path]) -> None:
    batch = []
    for path in random.Random(0).sample(paths, len(paths)):
        image = Image.open(path).convert("RGB")
        scale = SIZE / min(image.size)
        image = image.resize([round(scale * side) for side in image.size], Image.Resampling.BICUBIC)
        left, top = (image.width - SIZE) // 2, (image.height - SIZE) // 2
        batch.append(np.asarray(image.crop((left, top, left + SIZE, top + SIZE))))
        if len(batch) == BATCH:
            torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)
            batch = []


def random_access(dataset: Dataset) -> None:
    dataset = Dataset.open(dataset.folder)  # nothing in memory yet
    for index in random.Random(0).sample(range(len(dataset)), len(dataset)):
        dataset[index]


def load(dataset: Dataset) -> None:
    loader = Loader(dataset, PicturesOnly(), BATCH, shuffle=True, drop_last=False, sides="images")
    for _ in loader.epoch(0):
        pass


def race(ours: Callable[[], object], plain: Callable[[], object], count: int, repeats: int) -> str:
    best = [0.0, 0.0]
    for _ in range(repeats):
        for side, function in enumerate((ours, plain)):
            began = time.perf_counter()
            function()
            best[side] = max(best[side], count / (time.perf_counter() - began))
    return f"{best[0]:9,.0f} {best[1]:9,.0f} {best[0] / best[1]:7.2f}x"


def measure(kind: str, count: int, repeats: int, root: Path) -> None:
    (root / "raw").mkdir()
    paths = make(root / "raw", kind, count)
    report = import_dataset(root / "raw", root / "set")
    if report.rows != count:
        raise SystemExit(f"{kind}: {report.rejected}")
    dataset = Dataset.open(root / "set")
    ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "import": (lambda: import_dataset(root / "raw", root / "again"), lambda: plain_import(paths)),
        "random access": (lambda: random_access(dataset), lambda: plain_read(paths)),
        f"loader to {SIZE} px": (lambda: load(dataset), lambda: plain_batches(paths)),
    }
    for name, (ours, plain) in ways.items():
        print(f"{kind:10} {name:17}{race(ours, plain, count, repeats)}", flush=True)


# ---------------------------------------------------------------- tar shards


def write_shards(root: Path, count: int) -> Path:
    """Four shards of 256-px JPEGs with a caption each, as webdataset users lay them out."""
    (root / "raw").mkdir()
    paths = make(root / "raw", "JPEG 256", count)
    (root / "shards").mkdir()
    for number in range(4):
        with tarfile.open(root / "shards" / f"{number:05d}.tar", "w") as tar:
            for path in paths[number::4]:
                for suffix, data in (("jpg", path.read_bytes()), ("txt", f"picture {path.stem}".encode())):
                    info = tarfile.TarInfo(f"{path.stem}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return root / "shards"


class CropsAndCaptions:
    """Crops that need no resizing, and the captions as they are."""

    def __init__(self) -> None:
        self.decode_image = ImageProcessor(ImageConfig(size=SIZE, short_side=256))

    def collate(self, ids: list[str], images: list[np.ndarray] | np.ndarray | None, texts: list[str] | None) -> Batch:
        stacked = images if isinstance(images, np.ndarray) else np.stack(images or [])
        return Batch(ids=texts or ids, pixels=torch.from_numpy(stacked).permute(0, 3, 1, 2))

    def fingerprint(self) -> str:
        return "benchmark"


def from_shards(dataset: Dataset, threads: int) -> int:
    loader = Loader(dataset, CropsAndCaptions(), BATCH, shuffle=True, drop_last=False, threads=threads)
    return sum(len(batch.pixels) for batch in loader.epoch(0))


def middle(image: Image.Image) -> torch.Tensor:
    left, top = (image.width - SIZE) // 2, (image.height - SIZE) // 2
    return torch.from_numpy(np.array(image.crop((left, top, left + SIZE, top + SIZE)))).permute(2, 0, 1)


def same(text: str) -> str:
    return text


def from_webdataset(folder: Path, workers: int) -> int:
    import webdataset as wds

    paths = [str(path) for path in sorted(folder.glob("*.tar"))]
    pipeline = wds.WebDataset(paths, shardshuffle=False).decode("pil").to_tuple("jpg", "txt").map_tuple(middle, same)
    loader = wds.WebLoader(pipeline.batched(BATCH), batch_size=None, num_workers=workers)
    return sum(len(pixels) for pixels, _ in loader)


def measure_shards(count: int, repeats: int, root: Path) -> None:
    folder = write_shards(root, count)
    began = time.perf_counter()
    dataset = open_dataset(f"wds:{folder}")
    print(f"{len(dataset):,} samples indexed in {time.perf_counter() - began:.2f} s")
    threads = min(os.cpu_count() or 1, 2)
    ways: dict[str, Callable[[], int]] = {f"diptych, {threads} threads": lambda: from_shards(dataset, threads)}
    for workers in (0, 1, 2):
        ways[f"webdataset, {workers} workers"] = lambda workers=workers: from_webdataset(folder, workers)
    best = dict.fromkeys(ways, 0.0)
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            if way() != count:
                raise SystemExit(f"{name}: not every picture came")
            best[name] = max(best[name], count / (time.perf_counter() - began))
    for name, speed in best.items():
        print(f"{name:24}{speed:9,.0f}")
    ours, *peers = best.values()
    print(f"ratio to the best of webdataset: {ours / max(peers):.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=400, help="of 256 px; more of the smaller, fewer of the larger")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shards", action="store_true", help="measure tar shards beside webdataset, and nothing else")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores; pictures per second, best of {options.repeats}")
    if options.shards:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["DIPTYCH_CACHE"] = folder
            measure_shards(options.pictures, options.repeats, Path(folder))
        return
    print(f"{'':28}{'diptych':>9} {'plain':>9}   ratio")
    for kind, (width, height, _) in KINDS.items():
        count = max(2 * BATCH, options.pictures * 256 * 256 // (width * height))
        with tempfile.TemporaryDirectory() as folder:
            measure(kind, count, options.repeats, Path(folder))


if __name__ == "__main__":
    main()
