"""Steps that see with a dual encoder: captions that do not fit their picture, pictures that say the same thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from diptych.config import strict
from diptych.data.curate.lists import counts, flat, joined, judge_captions
from diptych.data.curate.pictures import of_rows
from diptych.data.curate.semantic import semantic_duplicates
from diptych.data.curate.steps import Decision, Models, Step, Tools

Share = Annotated[float, Field(ge=0, lt=1)]


@strict
@dataclass(frozen=True)
class Similarity(Step):
    """Drop captions that do not fit their picture, by the cosine that a dual encoder gives the two.

    Schuhmann et al., "LAION-400M" (2021), cut at a cosine of CLIP; Gadre et al., "DataComp" (2023), at a share of the
    pool. Both cuts can be asked for; a caption must pass both. A row without a readable picture or a caption passes.
    Where a row has several pictures a caption speaks of them together, and its cosine is the mean over those that can
    be read: one that has nothing to do with the caption pulls it down. The best cosine of a row's captions is kept as
    the score "similarity".

    Attributes:
        model: the address of a dual encoder.
        least: the least cosine; None for no such cut. What is a good one depends on the model.
        lowest: the share of all captions that is dropped from below.
    """

    do: Literal["similarity"] = "similarity"
    model: str = "pocket"
    least: Annotated[float, Field(ge=-1, le=1)] | None = None
    lowest: Share = 0.1

    reads: ClassVar[tuple[str, ...]] = ("captions",)
    measures_texts: ClassVar[tuple[str, ...]] = ("captions",)
    sees_pictures: ClassVar[bool] = True
    per_row: ClassVar[bool] = False

    def measures(self, models: Models) -> str:
        """The cosines, whatever the cut."""
        return f"similarity 2 {models(self.model).fingerprint}"

    def measure(self, batch: Any, models: Models) -> Mapping[str, Any]:
        """The mean cosine of each caption with its row's pictures; NaN where none can be read."""
        of_picture, encoded = of_rows(batch)
        vectors, good = models(self.model).images([data or b"" for data in encoded])
        sums = np.zeros((len(batch), vectors.shape[1]), np.float32)
        np.add.at(sums, of_picture[good], vectors[good])
        number = np.bincount(of_picture[good], minlength=len(batch))
        pictures, read = sums / np.maximum(number, 1)[:, None].astype(np.float32), number > 0
        of_row = np.repeat(np.arange(len(batch)), counts(batch["captions"]))
        texts = flat(batch["captions"]).to_pylist()
        cosine = np.full(len(texts), np.nan, dtype=np.float32)
        told = np.flatnonzero(read[of_row])
        if len(told):
            words = models(self.model).texts([texts[place] for place in told])
            cosine[told] = np.einsum("nd,nd->n", pictures[of_row[told]], words)
        ends = np.cumsum(np.bincount(of_row, minlength=len(batch)))
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        return {"similarity": pa.ListArray.from_arrays(offsets, pa.array(cosine, pa.float32()))}

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class."""
        cosine = pc.list_flatten(rows["similarity"]).to_numpy()
        judged = ~np.isnan(cosine)
        cut = -1.0 if self.least is None else self.least
        if self.lowest and judged.any():
            cut = max(cut, float(np.quantile(cosine[judged], self.lowest)))
        decision = judge_captions(
            rows,
            ~judged | (cosine >= cut),
            f"Captions whose cosine with their picture is below {cut:.3f} were dropped ({self.model}).",
            lambda place: f"{cosine[place]:.3f}",
        )
        had = counts(rows["captions"])
        best = np.full(len(rows), np.nan)
        some = had > 0
        if some.any():
            starts = (np.cumsum(had) - had)[some]
            best[some] = np.maximum.reduceat(cosine, starts)
        return Decision(**{**vars(decision), "scores": {"similarity": best}})


@strict
@dataclass(frozen=True)
class SemanticDuplicates(Step):
    """Of pictures that a model sees nearly as one, keep the one with the longest caption.

    Abbas et al., "SemDeDup" (2023), see `diptych.data.curate.semantic`. A row without a readable picture,
    or with several, passes.

    Attributes:
        model: the address of a dual encoder.
        threshold: the cosine from which on two pictures repeat each other.
        clusters: of k-means; None chooses by the number of rows.
    """

    do: Literal["semantic-duplicates"] = "semantic-duplicates"
    model: str = "pocket"
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.95
    clusters: Annotated[int, Field(ge=1)] | None = None

    reads: ClassVar[tuple[str, ...]] = ("captions",)
    sees_pictures: ClassVar[bool] = True
    per_row: ClassVar[bool] = False

    def measures(self, models: Models) -> str:
        """The vectors, whatever the threshold."""
        return f"picture vector 2 {models(self.model).fingerprint}"

    def measure(self, batch: Any, models: Models) -> Mapping[str, Any]:
        """The vector of each row's picture; null where it cannot be read, or where a row has several."""
        vectors, read = models(self.model).images([entry.as_py() or b"" for entry in batch["picture"]])
        read &= counts(batch["more"]) == 0
        values = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
        return {"vector": pa.FixedSizeListArray.from_arrays(values, vectors.shape[1], mask=pa.array(~read))}

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class."""
        column = rows["vector"].combine_chunks()
        read = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        width = column.type.list_size
        start = column.offset * width
        vectors = column.values.to_numpy()[start : start + len(column) * width].reshape(len(column), width)
        if len(read) < len(column):
            vectors = vectors[read]
        length = pc.utf8_length(joined(rows["captions"], " ")).to_numpy()
        owners = np.arange(len(rows))
        clusters = self.clusters and min(self.clusters, max(len(read), 1))
        owners[read] = read[
            semantic_duplicates(
                vectors, threshold=self.threshold, clusters=clusters, priority=length[read], seed=tools.seed
            )
        ]
        return Decision(
            f"Of pictures whose cosine is {self.threshold:g} or more ({self.model}), one was kept.",
            keep=owners == np.arange(len(rows)),
            say=lambda row: (f"says the same as {rows['id'][int(owners[row])].as_py()}", ""),
        )
