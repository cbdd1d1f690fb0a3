"""Questions as functional programs, in CLEVR's form, and their exact answer.

A program is a JSON list of nodes {"function", "inputs", "value_inputs"}; `inputs` are positions of earlier nodes, the
last node gives the answer. Functions, after CLEVR (Johnson et al. 2017, arXiv:1612.06890): scene, filter_X, unique,
relate, count, exist, query_X, equal_X, equal_integer, less_than, greater_than, where X is size, color, material or
shape. Deviation: no `same_X`, `union` and `intersect`, which no question here needs.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable
from functools import cache
from typing import Any

from diptych.data.scenes.relations import ATTRIBUTE_OF, PREDICATES, Facts, members
from diptych.data.scenes.world import ATTRIBUTES, Scene
from diptych.types import InputError

COMPARISONS = {"equal_integer": operator.eq, "less_than": operator.lt, "greater_than": operator.gt}


class PresuppositionError(ValueError):
    """The question speaks of "the ..." where the scene has none or several."""


class Program:
    """A program that is being written, node by node; `str` gives its JSON text."""

    __slots__ = ("nodes",)

    def __init__(self) -> None:
        self.nodes: list[str] = []

    def __str__(self) -> str:
        return f"[{', '.join(self.nodes)}]"

    def add(self, function: str, *inputs: int, value: str = "") -> int:
        """Write a node; gives its position."""
        self.nodes.append(_node(function, inputs, value))
        return len(self.nodes) - 1

    def things(self, values: Iterable[str], start: int | None = None) -> int:
        """Nodes for the things with all the values, among those of node `start` or in the whole scene."""
        at = self.add("scene") if start is None else start
        for value in values:
            at = self.add(f"filter_{ATTRIBUTE_OF[value]}", at, value=value)
        return at

    def the(self, values: Iterable[str], start: int | None = None) -> int:
        """Nodes for the one thing with all the values."""
        return self.add("unique", self.things(values, start))

    def beside(self, anchor: Iterable[str], direction: str, values: Iterable[str] = ()) -> int:
        """Nodes for the things with all the values in `direction` of the one thing with the values `anchor`."""
        return self.things(values, self.add("relate", self.the(anchor), value=direction))


@cache
def _node(function: str, inputs: tuple[int, ...], value: str) -> str:
    return json.dumps({"function": function, "inputs": inputs, "value_inputs": [value] if value else []})


def run_program(program: str | list[dict[str, Any]], scene: Scene) -> str:
    """The answer of a program, given as JSON text or as its nodes: "yes", "no", a number or a value, as in CLEVR.

    Raises:
        PresuppositionError: "the ..." finds no thing, or more than one.
        InputError: it is no program of the functions above.
    """
    facts = Facts(scene)
    results: list[Any] = []
    try:
        nodes = json.loads(program) if isinstance(program, str) else program
        for node in nodes:
            inputs = [_earlier(results, at) for at in node["inputs"]]
            results.append(_run(node["function"], inputs, node["value_inputs"], facts))
        answer = results[-1]
    except (LookupError, TypeError, ValueError) as error:
        if isinstance(error, PresuppositionError):
            raise
        raise InputError(f"program: expected a list of CLEVR's functions: {type(error).__name__}: {error}") from None
    return ("yes" if answer else "no") if isinstance(answer, bool) else str(answer)


def _earlier(results: list[Any], at: int) -> Any:
    if at < 0:
        raise ValueError(f"node {at} does not exist")
    return results[at]


def _run(function: str, inputs: list[Any], values: list[str], facts: Facts) -> Any:
    """One node. Sets of things are those of `Facts`; `unique` gives a set of one thing."""
    kind, _, attribute = function.partition("_")
    if function == "scene":
        return facts.all
    if function == "unique":
        if inputs[0].bit_count() != 1:
            raise PresuppositionError(f"expected one thing, found {inputs[0].bit_count()}")
        return inputs[0]
    if function == "relate":
        if values[0] not in PREDICATES:
            raise ValueError(f"unknown direction '{values[0]}'")
        return facts.related[values[0]][members(inputs[0])[0]]
    if function == "count":
        return inputs[0].bit_count()
    if function == "exist":
        return inputs[0] != 0
    if function in COMPARISONS:
        return bool(COMPARISONS[function](inputs[0], inputs[1]))
    if kind == "filter" and ATTRIBUTE_OF[values[0]] == attribute:
        return inputs[0] & facts.having[values[0]]
    if kind == "query" and attribute in ATTRIBUTES:
        return facts.values[members(inputs[0])[0]][attribute]
    if kind == "equal" and attribute in ATTRIBUTES:
        return bool(inputs[0] == inputs[1])
    raise ValueError(f"unknown function '{function}'")
