"""How far a guesser that never sees a picture gets: `python benchmarks/scenes_blind.py --scenes 30000 --objects 3-6`.

Two classifiers on the words and pairs of words of a text, naive Bayes and a network with a hidden layer, learn from
four fifths of the generated scenes and are judged on the rest: the answer, for each kind of question; "nonsense or
not", for each kind that has nonsense twins; "true or false", for captions beside those negatives that are sentences.
No picture is drawn. Prints accuracy in percent, chance, the larger difference, and two standard errors, which tell what
is noise.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from diptych.data.scenes.describe import describe
from diptych.data.scenes.dials import Dials, dials_of
from diptych.data.scenes.sampling import sample_scene

WIDTH = 1024  # columns that words and pairs of words share
MOST = 60_000  # examples of one test
Example = tuple[int, str, str]  # scene, text, label


def examples(dials: Dials) -> Iterator[tuple[str, Example]]:
    """(name of the test, example) of every scene."""
    for i in range(dials.n):
        said = describe(sample_scene(dials, i), dials, i)
        twins = {question.id for question in said.questions if not question.answerable}
        for question in said.questions:
            if question.answerable:
                yield question.kind, (i, question.question, question.answers[0])
            if question.id.endswith("-nonsense") or f"{question.id}-nonsense" in twins:
                yield f"nonsense: {question.kind}", (i, question.question, str(question.answerable))
        for negative in said.negatives[:2]:
            if "shuffled" in negative.kind:  # no sentences: anybody can tell
                continue
            yield f"negative: {negative.kind}", (i, said.captions[negative.of], "true")
            yield f"negative: {negative.kind}", (i, negative.text, "false")


def features(texts: list[str]) -> Any:
    """N x WIDTH: which words and pairs of neighbours a text has."""
    found = np.zeros((len(texts), WIDTH), np.float32)
    columns: dict[Any, int] = {}
    for row, text in enumerate(texts):
        words = ["^", *text.lower().rstrip(".?").replace(",", " ,").split(), "$"]
        for part in [*words, *zip(words, words[1:])]:
            found[row, columns.setdefault(part, len(columns)) % WIDTH] = 1
    return torch.from_numpy(found)


def naive_bayes(x: Any, y: Any, classes: int, test: Any) -> Any:
    """Bernoulli naive Bayes with add-one smoothing."""
    scores = []
    for label in range(classes):
        mine = x[y == label]
        share = (mine.sum(0) + 1) / (len(mine) + 2)
        scores.append(test @ share.log() + (1 - test) @ (1 - share).log() + np.log((len(mine) + 1) / len(x)))
    return torch.stack(scores, 1).argmax(1)


def network(x: Any, y: Any, classes: int, test: Any) -> Any:
    """One hidden layer, a few passes with AdamW."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(WIDTH, 64), torch.nn.ReLU(), torch.nn.Linear(64, classes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    for _ in range(3):
        for rows in torch.randperm(len(x)).split(256):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return model(test).argmax(1)


def judge(found: list[Example]) -> tuple[int, int, list[float]]:
    """(examples judged, number of labels, accuracy of each classifier in percent)."""
    labels = sorted({label for _, _, label in found})
    y = torch.tensor([labels.index(label) for _, _, label in found])
    x = features([text for _, text, _ in found])
    held = torch.tensor([scene % 5 == 0 for scene, _, _ in found])
    shares = []
    for classifier in (naive_bayes, network):
        guess = classifier(x[~held], y[~held], len(labels), x[held])
        shares.append(100 * float((guess == y[held]).float().mean()))
    return int(held.sum()), len(labels), shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", default="30000")
    parser.add_argument("--objects", default="3-6")
    parser.add_argument("--bias", default="0")
    options = parser.parse_args()
    tests: dict[str, list[Example]] = defaultdict(list)
    for name, example in examples(dials_of({"n": options.scenes, "objects": options.objects, "bias": options.bias})):
        if len(tests[name]) < MOST:
            tests[name].append(example)
    print(f"{'':42s} judged   chance   naive Bayes   network   above chance   two errors")
    for name in sorted(tests):
        count, classes, shares = judge(tests[name])
        chance = 100 / classes
        error = 2 * (chance * (100 - chance) / count) ** 0.5
        print(
            f"{name:42s} {count:6d}   {chance:5.1f}   {shares[0]:11.1f}   {shares[1]:7.1f}"
            f"   {max(shares) - chance:+12.1f}   {error:10.1f}"
        )


if __name__ == "__main__":
    main()
