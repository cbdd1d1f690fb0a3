"""The log and the spool: what a kill or a power cut leaves of them is read right."""

import json
from pathlib import Path
from typing import Any

from raw_pictures import jpeg

from diptych.data.fetch.ledger import Ledger
from diptych.data.fetch.spool import Spool
from diptych.types import EncodedImage, Mask, Object, Sample


def failed_line(row: int, reason: str) -> dict[str, Any]:
    return {"row": row, "id": str(row), "host": "a", "status": "failed", "reason": reason, "detail": ""}


def fetched_line(row: int, shard: int = 0) -> dict[str, Any]:
    return {"row": row, "id": str(row), "host": "a", "status": "fetched", "shard": shard, "bytes": 10}


def test_the_last_line_of_a_row_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "log", 4)
    ledger.write([failed_line(0, "not found"), failed_line(1, "gone"), failed_line(2, "gone")])
    ledger.write([fetched_line(0), failed_line(1, "not found"), failed_line(2, "gone")])
    ledger.close()
    again = Ledger(tmp_path / "log", 4)
    again.load({0}, unsure=1)
    for one in (ledger, again):
        assert one.counts() == {"fetched": 1, "not found": 1, "gone": 1, "open": 1}
        assert one.worst_hosts() == {"a": {"fetched": 1, "not found": 1, "gone": 1}}
        assert [(line["row"], line["reason"]) for line in one.failures()] == [(2, "gone"), (1, "not found")]
    again.close()


def test_a_torn_line_and_garbage_cost_themselves_only(tmp_path: Path) -> None:
    good = json.dumps(failed_line(1, "gone")).encode() + b"\n"
    (tmp_path / "log").write_bytes(b'{"row": 99}\n\0\0\0\n[]\n' + good + b'{"row": 2, "stat')
    ledger = Ledger(tmp_path / "log", 3)
    ledger.load(set(), unsure=0)
    ledger.write([failed_line(0, "gone")])
    ledger.close()
    assert (tmp_path / "log").read_bytes().endswith(good + json.dumps(failed_line(0, "gone")).encode() + b"\n")
    assert ledger.counts() == {"gone": 2, "open": 1}


def test_pictures_of_a_shard_that_is_gone_are_open_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "log", 3)
    ledger.write([failed_line(0, "gone"), fetched_line(0, 0), fetched_line(1, 1), fetched_line(2, 2)])
    ledger.close()
    again = Ledger(tmp_path / "log", 3)
    assert [*again.load({1}, unsure=2)] == [2]
    assert again.counts() == {"open": 2, "fetched": 1}
    again.close()


def sample_with_everything() -> Sample:
    thing = Object("cat", (0.0, 1.0, 2.0, 3.0), Mask(4, 5, b"\xff\x00abc"))
    return Sample("é", [EncodedImage(jpeg())], ["a", "b"], objects=[thing], texts={"title": "t"}, scores={"s": 0.5})


def test_a_spool_survives_a_cut_at_any_byte(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 0)
    ends = []
    for row in (2, 0, 1):
        spool.add([fetched_line(row)], sample_with_everything())
        ends.append(spool.size)
    spool.close()
    data = spool.path.read_bytes()
    assert len(data) == ends[-1]
    for cut in sorted({*range(0, len(data), 97), *ends, *(end - 1 for end in ends), *(end + 1 for end in ends[:-1])}):
        spool.path.write_bytes(data[:cut])
        again = Spool(tmp_path, 0)
        whole = [end for end in ends if end <= cut]
        assert [record.row for record in again.recover()] == [2, 0, 1][: len(whole)]
        assert spool.path.stat().st_size == (whole or [0])[-1]
        assert list(again.samples()) == [sample_with_everything()] * len(whole)
        again.close()


def test_a_spool_does_not_believe_damaged_records(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 0)
    for row in range(2):
        spool.add([fetched_line(row)], sample_with_everything())
    spool.close()
    data = bytearray(spool.path.read_bytes())
    data[-5] ^= 1
    spool.path.write_bytes(data)
    again = Spool(tmp_path, 0)
    assert [record.row for record in again.recover()] == [0]
    again.close()
