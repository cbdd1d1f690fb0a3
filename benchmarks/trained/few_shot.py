"""Accuracy of a trained Frozen or Flamingo on few-shot episodes, by the number of solved examples it is given.

    python benchmarks/trained/few_shot.py runs/flamingo/model --data "scenes:?n=400&size=64&task=episodes&split=test"

For each kind of episode: the share of last questions answered rightly after 0, 1, ... examples, the same with all
pictures blanked (the blind control), and what guessing among the answers reaches. An answer is right where the reply
has the true word or number and none of the others.
"""

import argparse
import re
from collections import Counter, defaultdict
from typing import Any

import numpy as np

import diptych
from diptych.processing.documents import few_shot
from diptych.types import Rejected, Sample

Asked = list[tuple[list[Any], str]]


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def asked_with(model: Any, samples: list[Sample], shots: int, blank: bool) -> Asked:
    """Each sample's last question after so many examples, with the pictures that it shows."""
    found = []
    for sample in samples:
        prompt, pictures, _ = few_shot(sample.messages, shots)
        decoded = [model.processor.decode_image(sample.images[i].data) for i in pictures]
        found.append(([np.full_like(one, 128) if blank else one for one in decoded], prompt))
    return found


def accuracy(model: Any, samples: list[Sample], asked: Asked, batch: int = 32) -> float:
    """The share of right replies."""
    replies = []
    for start in range(0, len(asked), batch):
        some = asked[start : start + batch]
        replies += model.answer([pictures for pictures, _ in some], [prompt for _, prompt in some])
    right = 0
    for sample, reply in zip(samples, replies, strict=True):
        (question,) = sample.questions
        answers = set(question.choices) or {"0", "1", "2"}
        said = set() if isinstance(reply, Rejected) else words_of(reply.text) & answers
        right += said == set(question.answers)
    return right / len(samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", default="scenes:?n=400&size=64&task=episodes&split=test")
    parser.add_argument("--most", type=int, default=4, help="examples at most")
    options = parser.parse_args()
    model, dataset = diptych.load(options.model), diptych.open_dataset(options.data)
    by_kind: dict[str, list[Sample]] = defaultdict(list)
    for sample in dataset.take(range(len(dataset))):
        if sample.questions and sample.messages:
            by_kind[sample.questions[0].kind].append(sample)
    for kind, samples in by_kind.items():
        chances = [1 / len(one.questions[0].choices) for one in samples if one.questions[0].choices]
        commonest = Counter(one.questions[0].answers[0] for one in samples).most_common(1)[0][1] / len(samples)
        chance = np.mean(chances) if chances else commonest
        print(f"{kind}: {len(samples)} episodes, chance {chance:.2f}")
        for shots in range(options.most + 1):
            seen, blind = (
                accuracy(model, samples, asked_with(model, samples, shots, blank)) for blank in (False, True)
            )
            print(f"  {shots} examples: {seen:.3f}, pictures blanked: {blind:.3f}")


if __name__ == "__main__":
    main()
