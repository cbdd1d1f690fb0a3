"""Exact and near-duplicate pictures, found by perceptual hashes.

Two pictures are near-duplicates when both their difference hashes (64 comparisons of neighbouring grey values) and
their 8 x 8 colour thumbnails are close: the hash makes candidates cheap to find, the thumbnail keeps a drawing in
another colour apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from pydantic import Field

from diptych.config import strict
from diptych.data.curate.lists import counts, joined
from diptych.data.curate.near import THUMBNAIL, greedy_owners, looks_of
from diptych.data.curate.pictures import opened
from diptych.data.curate.steps import Array, Decision, Models, Step, Tools

_TYPES = {"digest": pa.binary(16), "bits": pa.uint64(), "thumbnail": pa.binary(THUMBNAIL)}


class PictureHash(NamedTuple):
    """What repeats are found by: an exact digest, a 64-bit difference hash, an 8 x 8 x 3 thumbnail (uint8, flat)."""

    digest: bytes
    bits: int
    thumbnail: bytes


@strict
@dataclass(frozen=True)
class Duplicates(Step):
    """Of pictures that repeat each other, keep the one with the longest caption (the earlier one if these are equal).

    Pictures repeat each other if their pixels are equal, or if difference hashes are at most 3 of 64 bits apart and
    thumbnails differ by at most `difference`. A picture is compared with those kept before it, so that a chain of small
    changes is not one group. One that cannot be read repeats nothing. Rows with several pictures repeat each other if
    all of these are equal, one by one.

    Attributes:
        difference: of the 8 x 8 thumbnails, mean over pixels and channels, 0 to 255; None for equal pixels only.
    """

    do: Literal["duplicates"] = "duplicates"
    difference: Annotated[float, Field(ge=0, le=255)] | None = 2.0

    reads: ClassVar[tuple[str, ...]] = ("captions",)
    sees_pictures: ClassVar[bool] = True
    per_row: ClassVar[bool] = False

    def measures(self, models: Models) -> str:
        """The hashes, whatever the difference that is allowed."""
        return "picture hash 2"

    def measure(self, batch: Any, models: Models) -> Mapping[str, Any]:
        """Hashes of each row's first picture, null where it cannot be read, and the list of those of its others."""
        first = table_of(_hashes(batch["picture"]))
        more = [[entry and entry._asdict() for entry in _hashes(pictures)] for pictures in batch["more"]]
        return {**{name: first[name] for name in _TYPES}, "more": pa.array(more, pa.list_(pa.struct(_TYPES)))}

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class."""
        order = np.argsort(-pc.utf8_length(joined(rows["captions"], " ")).to_numpy(), kind="stable")
        owners = find_duplicates(_rows_as_one(rows), self.difference, order)
        return Decision(
            "Of pictures that repeat each other, the one with the longest caption was kept.",
            keep=owners == np.arange(len(rows)),
            say=lambda row: (f"repeats {rows['id'][int(owners[row])].as_py()}", ""),
        )


def _hashes(pictures: Any) -> list[PictureHash | None]:
    return [None if image is None else picture_hash(image) for image in opened(pictures)]


def _rows_as_one(rows: Any) -> Any:
    """The hashes of rows; of several pictures the digest is that of all, and there is none that could be near."""
    several = counts(rows["more"]) > 0
    if not several.any():
        return rows
    digests, bits = (
        rows["digest"].to_pylist(),
        pc.if_else(pa.array(several), pa.scalar(None, pa.uint64()), rows["bits"]),
    )
    for i in np.flatnonzero(several).tolist():
        own = [digests[i], *(entry and entry["digest"] for entry in rows["more"][i].as_py())]
        digests[i] = None if None in own else hashlib.blake2b(b"".join(own), digest_size=16).digest()
    digest = pa.chunked_array([pa.array(digests, _TYPES["digest"])])
    return pa.table({"digest": digest, "bits": bits, "thumbnail": rows["thumbnail"]})


def every_picture(rows: Any) -> tuple[Array, Any]:
    """Of all pictures of rows, as `Duplicates` measures them, that could be read: (their rows, a table of hashes)."""
    more = rows["more"].combine_chunks()
    others = pa.Table.from_struct_array(pc.list_flatten(more))
    hashes = pa.concat_tables([rows.select(list(_TYPES)), others.select(list(_TYPES))])
    of_row = np.concatenate([np.arange(len(rows)), pc.list_parent_indices(more).to_numpy()])
    read = pc.is_valid(hashes["digest"])
    return of_row[read.to_numpy()], hashes.filter(read)


def picture_hash(image: Image.Image) -> PictureHash:
    """The hashes of an RGB picture."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")
    thumbnail = np.asarray(image.resize((8, 8), Image.Resampling.BOX), dtype=np.uint8).tobytes()
    digest = hashlib.blake2b(image.tobytes() + str(image.size).encode(), digest_size=16).digest()
    return PictureHash(digest, bits, thumbnail)


def table_of(hashes: Sequence[PictureHash | None]) -> Any:
    """Hashes as an Arrow table, the way `find_duplicates` wants them."""
    return pa.table({name: pa.array([h and getattr(h, name) for h in hashes], type) for name, type in _TYPES.items()})


def find_duplicates(hashes: Any, max_difference: float | None, order: Array | None = None) -> Array:
    """For each picture the index of the one that it repeats, or its own: int64 N.

    Greedy: in `order`, a picture is compared with those kept before it.

    Args:
        hashes: a table with the columns digest, bits, thumbnail; a picture without digest (it could not be read)
            repeats nothing, one without bits is near to nothing.
        max_difference: between thumbnails, mean over pixels, 0 to 255; None for equal digests only.
        order: a permutation of the rows; as they stand by default.
    """
    order = np.arange(len(hashes)) if order is None else order
    owners = np.arange(len(hashes))
    codes = pc.dictionary_encode(hashes["digest"]).unify_dictionaries().combine_chunks().indices
    read = pc.is_valid(codes).to_numpy(zero_copy_only=False)
    order = order[read[order]]
    code = pc.fill_null(codes, 0).to_numpy()[order]
    _, first, group = np.unique(code, return_index=True, return_inverse=True)
    owners[order] = order[first][group]
    if max_difference is not None:
        distinct = order[np.sort(first)]
        distinct = distinct[pc.is_valid(hashes["bits"]).to_numpy()[distinct]]
        looks = looks_of(pc.fill_null(hashes["bits"], 0).to_numpy(), thumbnails(hashes))
        owners[distinct] = greedy_owners(looks, distinct, max_difference)
    return owners


def thumbnails(hashes: Any) -> Array:
    """The thumbnails, uint8 N x 192, without copying them; undefined where there is none."""
    column = hashes["thumbnail"].combine_chunks()
    start = column.offset * THUMBNAIL
    raw = np.frombuffer(column.buffers()[1] or b"", np.uint8)[start : start + len(column) * THUMBNAIL]
    return raw.reshape(-1, THUMBNAIL)
