"""Pictures that repeat each other, exactly or nearly."""

import numpy as np
import pyarrow as pa
from curated_rows import decided, drawing, kept, rows
from PIL import Image

from diptych.data.curate.duplicates import Duplicates, find_duplicates, picture_hash, table_of


def test_near_duplicates_are_found_and_other_pictures_are_not() -> None:
    recoloured = Image.fromarray(np.asarray(drawing(0))[..., ::-1].copy())
    pictures = [drawing(0), drawing(1), drawing(0, noise=2), drawing(0).resize((48, 48)), drawing(0), recoloured]
    hashes = [picture_hash(picture) for picture in pictures]
    assert find_duplicates(table_of(hashes), 2.0).tolist() == [0, 1, 0, 0, 0, 5]
    assert find_duplicates(table_of(hashes), None).tolist() == [0, 1, 2, 3, 0, 5], "equal pixels only"
    assert find_duplicates(table_of(hashes), 2.0, np.array([5, 4, 3, 2, 1, 0])).tolist() == [4, 1, 4, 4, 4, 5]
    assert find_duplicates(table_of([None, hashes[0], None]), 2.0).tolist() == [0, 1, 2]
    assert find_duplicates(table_of([None, None]), 2.0).tolist() == [0, 1]


def test_a_chain_of_small_changes_is_not_one_group() -> None:
    """Each drawing is near the one before it and far from the first: greedy keeps every other or so, not only one."""
    base = np.asarray(drawing(3)).astype(int)
    chain = [picture_hash(Image.fromarray((base // 2 + 3 * i).clip(0, 255).astype(np.uint8))) for i in range(6)]
    owners = find_duplicates(table_of(chain), 4.0).tolist()
    assert owners == [0, 0, 2, 2, 4, 4]


def test_the_longest_caption_is_kept() -> None:
    hashes = table_of([picture_hash(drawing(0)), picture_hash(drawing(0)), picture_hash(drawing(0))])
    table = rows(
        [["dog"], ["a brown dog"], ["a black dog"]],
        **{name: hashes[name].combine_chunks() for name in hashes.column_names},
        more=pa.array([[], [], []], pa.list_(pa.null())),
    )
    decision = decided(Duplicates(), table)
    assert kept(decision) == [1] and decision.say(0) == ("repeats 1", "")
    sliced = pa.concat_tables([table, table]).slice(1, 4)
    assert kept(decided(Duplicates(), sliced)) == [0]
