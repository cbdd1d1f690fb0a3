"""Make the built-in `clipart` dataset from the raw Parquet file of the Open Clip Art Library release.

    python scripts/build_clipart.py RAW.parquet src/diptych/data/builtin/clipart.parquet

The raw columns are image (struct of bytes and path), title, description, tags, creator and license. The label is the
library's top folder. Nothing is cleaned: that is the work of `diptych data curate`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from diptych.data.schema import SCHEMA
from diptych.data.store import DatasetWriter
from diptych.types import EncodedImage, Sample

SOURCE = "Open Clip Art Library"


def sample_of(row: dict) -> Sample:
    """One raw row as a sample."""
    path, title = row["image"]["path"], row["title"]
    shelf = path.split("/")[0].replace("_", " ")
    return Sample(
        id=path,
        images=[EncodedImage(row["image"]["bytes"], path)],
        captions=[title.strip()] if title.strip() else [],
        label=None if shelf == "unsorted" else shelf,
        tags=row["tags"],
        texts={"title": title, "description": row["description"], "path": path},
        source=SOURCE,
        license=row["license"],
        creator=row["creator"],
    )


def main(raw: Path, out: Path) -> None:
    """Convert `raw` and write `out`. Equal pictures are stored once per row group, which saves about a megabyte."""
    with tempfile.TemporaryDirectory() as folder:
        with DatasetWriter(Path(folder) / "clipart", source=SOURCE) as writer:
            for batch in pq.ParquetFile(raw).iter_batches(256):
                for row in batch.to_pylist():
                    writer.write(sample_of(row))
        (shard,) = writer.folder.glob("data-*.parquet")
        file = pq.ParquetFile(shard)
        with pq.ParquetWriter(
            out, SCHEMA, compression="zstd", dictionary_pagesize_limit=8 << 20, write_statistics=["id"]
        ) as target:
            for group in range(file.num_row_groups):
                target.write_table(file.read_row_group(group))
            target.add_key_value_metadata(file.metadata.metadata)
    print(f"{out}: {writer.rows} rows, {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
