"""Ids stay unique in little memory."""

import random

from diptych.data import unique_ids
from diptych.data.unique_ids import UniqueIds


def by_a_set(ids: list[str]) -> list[str]:
    """The same with all ids at hand, where no id with "#" is given."""
    taken: set[str] = set()
    for id in ids:
        free = next(name for n in range(len(ids) + 2) if (name := f"{id}#{n}" if n > 1 else id) not in taken)
        taken.add(free)
    return list(taken)


def test_numbers_are_those_that_come_next(monkeypatch):
    monkeypatch.setattr(unique_ids, "_LEAST_MERGE", 10)
    random.seed(0)
    ids = [f"row{int(random.paretovariate(0.6))}" for _ in range(2000)]
    unique = UniqueIds()
    found = [unique.free(id) for id in ids]
    assert len(set(found)) == 2000 and set(found) == set(by_a_set(ids))
    assert all(name == id or name.startswith(f"{id}#") for name, id in zip(found, ids))


def test_given_numbers_are_not_given_again():
    unique = UniqueIds()
    found = [unique.free(id) for id in ("a#5", "a", "a", "a#2", "a", "a", "a", "a")]
    assert found == ["a#5", "a", "a#2", "a#2#2", "a#3", "a#4", "a#6", "a#7"]
    assert unique.free("caf\udce9") == "caf\udce9" and unique.free("caf?") == "caf?#2", "they are written alike"


def test_one_id_for_all_rows_costs_no_search_each(monkeypatch):
    asked = 0
    plain = unique_ids._hash

    def counted(id):
        nonlocal asked
        asked += 1
        return plain(id)

    monkeypatch.setattr(unique_ids, "_hash", counted)
    unique = UniqueIds()
    assert [unique.free("a") for _ in range(1000)][-1] == "a#1000" and asked < 25_000


def test_ids_of_one_hash_do_no_harm(monkeypatch):
    monkeypatch.setattr(unique_ids, "_hash", lambda id: len(id))
    unique = UniqueIds()
    assert [unique.free(id) for id in ("a", "b", "abc")] == ["a", "b#2", "abc#2"]
