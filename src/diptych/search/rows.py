"""The ids and flat fields of an index, row by row, and the filters over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from diptych.types import InputError

Value = str | int | float
Fields = dict[str, Value]
Where = Mapping[str, Any] | Callable[[Fields], bool]

_TESTS: dict[str, Callable[[pa.Array, Any], pa.Array]] = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


class Rows:
    """Rows are dense: a row that leaves is replaced by the last one. Not thread-safe by itself."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.fields: list[Fields] = []
        self._row: dict[str, int] = {}
        self._is_text: dict[str, bool] = {}  # what each field holds: text, or numbers
        self._columns: dict[str, pa.Array] = {}  # of the fields filtered on, until the next change

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, id: str) -> int | None:
        """Where `id` lies, or None."""
        return self._row.get(id)

    # ------------------------------------------------------------ changes

    def check(self, ids: Sequence[str], fields: Sequence[Mapping[str, Any]] | None) -> list[Fields]:
        """Plain copies of `fields`, one for each id. Raises `InputError` where ids repeat or a value does not fit."""
        if len(set(ids)) != len(ids):
            seen: set[str] = set()
            twice = next(id for id in ids if id in seen or seen.add(id))  # type: ignore[func-returns-value]
            raise InputError(f"ids: expected each id once in a call, got {twice!r} twice")
        for id in ids:
            if not isinstance(id, str) or not _is_unicode(id):
                raise InputError(f"ids: expected text that is valid Unicode, got {id!r}")
        if fields is None:
            return [{} for _ in ids]
        if len(fields) != len(ids):
            raise InputError(f"fields: expected one entry for each of {len(ids)} ids, got {len(fields)}")
        kinds = dict(self._is_text)
        return [_plain(id, given, kinds) for id, given in zip(ids, fields)]

    def put(self, id: str, fields: Fields) -> int:
        """Add a row, or overwrite the one with this id; `fields` went through `check`. Returns where it lies."""
        row = self._row.get(id)
        if row is None:
            row = self._row[id] = len(self.ids)
            self.ids.append(id)
            self.fields.append(fields)
        else:
            self.fields[row] = fields
        for name, value in fields.items():
            self._is_text[name] = isinstance(value, str)
        self._columns.clear()
        return row

    def remove(self, id: str) -> int:
        """Take out `id`; the last row moves to its place. Returns that place."""
        row, last = self._row.pop(id), len(self.ids) - 1
        last_id, last_fields = self.ids.pop(), self.fields.pop()
        if row != last:
            self.ids[row], self.fields[row] = last_id, last_fields
            self._row[last_id] = row
        self._columns.clear()
        return row

    # ------------------------------------------------------------ filters

    def select(self, where: Where) -> NDArray[np.int64]:
        """The rows that satisfy `where` (its words: `VectorIndex.search`), ascending."""
        if callable(where):
            kept = (i for i, (id, f) in enumerate(zip(self.ids, self.fields)) if where({"id": id, **f}))
            return np.fromiter(kept, dtype=np.int64)
        mask = np.ones(len(self), dtype=bool)
        for name, wanted in where.items():
            for test, value in _conditions(name, wanted):
                mask &= self._matches(name, test, value)
        return np.flatnonzero(mask)

    def _matches(self, name: str, test: str, value: Any) -> NDArray[np.bool_]:
        if name != "id" and name not in self._is_text and len(self):
            known = ", ".join(sorted(self._is_text)) or "none"
            raise InputError(f"where: no row has the field {name!r}; fields are: {known}")
        is_text = name == "id" or self._is_text.get(name, False)
        for one in value if test == "in" else [value]:
            if not isinstance(one, str if is_text else (int, float)) and len(self):
                raise InputError(f"where: field {name!r} holds {'text' if is_text else 'numbers'}, got {one!r}")
        column = self._column(name)
        if test == "in":
            kind = pa.string() if is_text else pa.float64()  # so that 3 finds 3.0
            return _mask(
                pc.is_in(column.cast(kind), value_set=pa.array([v if is_text else float(v) for v in value], kind))
            )
        return _mask(_TESTS[test](column, pa.scalar(value)))

    def _column(self, name: str) -> pa.Array:
        column = self._columns.get(name)
        if column is None:
            values = self.ids if name == "id" else [fields.get(name) for fields in self.fields]
            column = self._columns[name] = _array(values, name == "id" or self._is_text.get(name, False))
        return column

    # ------------------------------------------------------------ disk

    def table(self) -> pa.Table:
        """An `id` column and one for each field."""
        return pa.table({"id": pa.array(self.ids, pa.string())} | {name: self._column(name) for name in self._is_text})

    @classmethod
    def from_table(cls, table: pa.Table) -> Rows:
        """What `table()` gave."""
        rows = cls()
        rows.ids = table.column("id").to_pylist()
        rows._row = {id: row for row, id in enumerate(rows.ids)}
        rows.fields = [{} for _ in rows.ids]
        for name in table.column_names:
            if name != "id":
                rows._is_text[name] = pa.types.is_string(table.schema.field(name).type)
                for fields, value in zip(rows.fields, table.column(name).to_pylist()):
                    if value is not None:
                        fields[name] = value
        return rows


def _plain(id: str, given: Mapping[str, Any], is_text: dict[str, bool]) -> Fields:
    """The fields of one row as str, int or float; None is left out. `is_text` learns the kinds of new fields."""
    plain: Fields = {}
    for name, value in given.items():
        if value is None:
            continue
        if not isinstance(name, str) or name == "id" or not _is_unicode(name):
            raise InputError(f"fields of {id!r}: expected names other than 'id' in valid Unicode, got {name!r}")
        if isinstance(value, str) and _is_unicode(value):
            plain[name] = str(value)
        elif isinstance(value, (bool, int, np.integer)) and -(2**63) <= int(value) < 2**63:
            plain[name] = int(value)
        elif isinstance(value, (float, np.floating)):
            plain[name] = float(value)
        else:
            raise InputError(f"fields of {id!r}: {name}: expected text or a 64-bit number, got {value!r}")
        if is_text.setdefault(name, isinstance(value, str)) != isinstance(value, str):
            kinds = ("a number", "text") if isinstance(value, str) else ("text", "a number")
            raise InputError(
                f"fields of {id!r}: {name}: expected {kinds[0]} as in other rows, got {kinds[1]}: {value!r}"
            )
    return plain


def _conditions(name: str, wanted: Any) -> list[tuple[str, Any]]:
    """What `where` says of one field, as (test, value) pairs that must all hold."""
    if isinstance(wanted, Mapping):
        unknown = [test for test in wanted if test not in _TESTS and test != "in"]
        if unknown:
            raise InputError(f"where: {name}: expected one of {', '.join([*_TESTS, 'in'])}, got {unknown[0]!r}")
        return [(test, list(value) if test == "in" else value) for test, value in wanted.items()]
    if isinstance(wanted, (list, tuple, set, frozenset)):
        return [("in", list(wanted))]
    return [("==", wanted)]


def _array(values: list[Any], is_text: bool) -> pa.Array:
    if is_text:
        return pa.array(values, pa.string())
    if any(isinstance(value, float) for value in values):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array(values, pa.int64())


def _mask(matches: pa.Array) -> NDArray[np.bool_]:
    # a row without the field matches nothing
    return np.asarray(pc.fill_null(matches, False).to_numpy(zero_copy_only=False), dtype=bool)


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
