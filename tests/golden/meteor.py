"""Makes meteor.json: what METEOR 1.5 itself says of captions that are varied in every way its stages know.

    python tests/golden/meteor.py

Needs Java and the package pycocoevalcap, which carries METEOR. The captions are those of meteor_captions.txt (blank
lines part the pictures) and of the generated world; the candidates are captions of the same picture, with words
replaced by synonyms and paraphrases from METEOR's own tables, reordered, dropped, repeated, or of another picture.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import zipfile
from pathlib import Path
from random import Random

from diptych.data.scenes.describe import describe
from diptych.data.scenes.dials import dials_of
from diptych.data.scenes.sampling import sample_scene
from diptych.evaluation.metrics.meteor_data import MeteorData, find_meteor_data

HERE = Path(__file__).parent
SCENES, OF_SCENES, OF_HAND = 60, 6, 8  # pictures of the world, candidates of each, candidates of each caption by hand


def main() -> None:
    data = find_meteor_data()
    assert data is not None, "pycocoevalcap is not installed"
    by_hand = [group.splitlines() for group in (HERE / "meteor_captions.txt").read_text("utf-8").split("\n\n")]
    pictures = [[line for line in group if line] for group in by_hand] + scenes()
    others = others_of(data, [line for picture in pictures for line in picture])
    rows = [row for number in range(len(pictures)) for row in candidates(pictures, number, others, len(by_hand))]
    scores, corpus = run_meteor(data, rows, pictures)
    golden = [
        f'"corpus": {corpus}',
        '"pictures": [\n' + ",\n".join(json.dumps(picture, ensure_ascii=False) for picture in pictures) + "\n]",
        '"rows": [\n'
        + ",\n".join(json.dumps([*row, score], ensure_ascii=False) for row, score in zip(rows, scores))
        + "\n]",
    ]
    (HERE / "meteor.json").write_text("{\n" + ",\n".join(golden) + "\n}\n", "utf-8")
    print(f"{len(rows)} candidates of {len(pictures)} pictures, METEOR {corpus}")


def scenes() -> list[list[str]]:
    dials = dials_of({})
    return [
        [caption.lower() for caption in describe(sample_scene(dials, index), dials, index).captions]
        for index in range(SCENES)
    ]


def candidates(
    pictures: list[list[str]], number: int, others: dict[str, list[str]], by_hand: int
) -> list[tuple[str, int, int]]:
    """Candidates of a picture: (text, picture, which caption is left out of the references; -1 for none)."""
    random = Random(number)
    own, count = pictures[number], OF_HAND if number < by_hand else OF_SCENES
    rows: list[tuple[str, int, int]] = []
    for place, caption in enumerate(own if number < by_hand else own[:1]):
        rows.append((caption, number, place if len(own) > 1 else -1))
        for turn in range(1, count):
            text = random.choice(own) if turn == 1 else caption
            rows.append((vary(text.split(), turn, random, others), number, place if len(own) > 1 and turn % 2 else -1))
    rows.append((random.choice(pictures[random.randrange(len(pictures))]), number, -1))
    rows.append((["", own[0], "a", " ".join(own)][number % 4], number, -1))
    return rows


def vary(words: list[str], turn: int, random: Random, others: dict[str, list[str]]) -> str:
    """Replaced phrases in every turn, and something else by turns."""
    words = list(words)
    for _ in range(turn):
        start = random.randrange(len(words))
        end = random.randint(start + 1, min(start + 4, len(words)))
        if known := others.get(" ".join(words[start:end])):
            words[start:end] = random.choice(known).split()
    if turn % 4 == 1:
        words.insert(random.randrange(len(words)), random.choice(words))
    if turn % 4 == 2 and len(words) > 2:
        del words[random.randrange(len(words))]
    if turn % 4 == 3:
        cut = random.randrange(len(words))
        words = words[cut:] + words[:cut]
    if turn == 7:
        random.shuffle(words)
    return " ".join(words)


def others_of(data: MeteorData, captions: list[str]) -> dict[str, list[str]]:
    """Synonyms, other forms and paraphrases of the phrases of the captions."""
    wanted = {
        " ".join(words[start:end])
        for words in map(str.split, captions)
        for start in range(len(words))
        for end in range(start + 1, start + 5)
    }
    others: dict[str, list[str]] = {}
    synonyms = data.synonyms()
    of_synset: dict[str, list[str]] = {}
    with zipfile.ZipFile(data.jar) as jar:
        known = jar.read("synonym/english.synsets").decode().split("\n")[::2]
    for word in known:
        for synset in synonyms.of(word):
            of_synset.setdefault(synset, []).append(word)
    for word in sorted(wanted):
        if " " not in word:
            related = {other for synset in synonyms.of(word) for other in of_synset.get(synset, ()) if "_" not in other}
            others[word] = sorted(related - {word}) + [word + ending for ending in ("s", "ing", "ed")]
    assert data.table is not None
    with gzip.open(data.table, "rt", encoding="utf-8") as lines:
        for _, phrase, paraphrase in zip(lines, lines, lines):
            if phrase.strip() in wanted:
                others.setdefault(phrase.strip(), []).append(paraphrase.strip())
    return others


def run_meteor(
    data: MeteorData, rows: list[tuple[str, int, int]], pictures: list[list[str]]
) -> tuple[list[float], float]:
    """METEOR as pycocoevalcap runs it: SCORE lines first, then their statistics in one EVAL line."""
    asked = []
    for text, number, left_out in rows:
        references = [caption for place, caption in enumerate(pictures[number]) if place != left_out]
        asked.append(" ||| ".join(["SCORE", *references, text]))
    statistics = ask(data, asked)
    *scores, corpus = ask(data, [" ||| ".join(["EVAL", *statistics])])
    return [float(score) for score in scores], float(corpus)


def ask(data: MeteorData, lines: list[str]) -> list[str]:
    command = ["java", "-Xmx2G", "-jar", str(data.jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    done = subprocess.run(
        command, input="\n".join(lines) + "\n", capture_output=True, check=True, encoding="utf-8", cwd=data.jar.parent
    )
    return done.stdout.splitlines()


if __name__ == "__main__":
    main()
