"""METEOR of captions with five references each, against the released program (Java) on the same captions.

    python benchmarks/meteor.py --captions 5000

Prints CPU and wall seconds of both, with the time to load the tables apart, and how far the scores are from each other.
The captions are those of the generated world. Needs Java and pycocoevalcap (the dev extra).
"""

from __future__ import annotations

import argparse
import subprocess
import time

import numpy as np

from diptych.data.scenes.describe import describe
from diptych.data.scenes.dials import dials_of
from diptych.data.scenes.sampling import sample_scene
from diptych.evaluation.metrics.meteor import MeteorData, find_meteor_data, meteor
from diptych.evaluation.metrics.meteor_words import words_of
from diptych.evaluation.metrics.tokenizer import tokenize

REFERENCES = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", type=int, default=1000)
    count = parser.parse_args().captions
    data = find_meteor_data()
    if data is None:
        raise SystemExit("pycocoevalcap is not installed")
    candidates, references = captions(count)

    start, wall = time.process_time(), time.perf_counter()
    data.synonyms()
    data.paraphrases([words_of(text) for texts in [candidates, *references] for text in texts])
    loading, wall_loading = time.process_time() - start, time.perf_counter() - wall
    start, wall = time.process_time(), time.perf_counter()
    ours = meteor(candidates, references, data, tokenized=True)
    scoring, wall_scoring = time.process_time() - start, time.perf_counter() - wall
    print(f"stages: {', '.join(ours.stages)}; {count} captions, {REFERENCES} references each")
    report("diptych", wall_loading, wall_scoring, count)
    print(f"         (CPU: {loading:.2f} s and {scoring:.2f} s)")

    _, wall_loading = run(data, candidates[:1], references[:1])
    program, wall_all = run(data, candidates, references)
    report("program", wall_loading, max(wall_all - wall_loading, 0.0), count)
    off = np.abs(ours.each - program[:-1])
    print(f"corpus {ours.value:.6f}, program {program[-1]:.6f}, off by {abs(ours.value - program[-1]):.1e}")
    print(f"captions within 1e-6: {(off < 1e-6).mean():.2%}, within 1e-3: {(off < 1e-3).mean():.2%}")


def captions(count: int) -> tuple[list[str], list[list[str]]]:
    """Tokens of a caption of each scene, and of its others filled up to five with the next scene's."""
    dials = dials_of({})
    texts = [describe(sample_scene(dials, index), dials, index).captions for index in range(count + 1)]
    flat = iter(tokenize([text for some in texts for text in some]))
    tokens = [[next(flat) for _ in some] for some in texts]
    references = [(own[1:] + following)[:REFERENCES] for own, following in zip(tokens, tokens[1:])]
    return [own[0] for own in tokens[:count]], references


def run(data: MeteorData, candidates: list[str], references: list[list[str]]) -> tuple[np.ndarray, float]:
    """Scores of the captions and of the corpus by the program, as pycocoevalcap runs it, and wall seconds."""
    command = ["java", "-Xmx2G", "-jar", str(data.jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-3, encoding="utf-8", cwd=data.jar.parent) as program:
        assert program.stdin is not None and program.stdout is not None

        def say(*parts: str) -> None:
            program.stdin.write(" ||| ".join(parts) + "\n")
            program.stdin.flush()

        statistics = []
        for candidate, texts in zip(candidates, references):
            say("SCORE", *texts, candidate)
            statistics.append(program.stdout.readline().strip())
        say("EVAL", *statistics)
        scores = np.array([float(program.stdout.readline()) for _ in range(len(candidates) + 1)])
        program.stdin.close()
    return scores, time.perf_counter() - start


def report(name: str, loading: float, scoring: float, count: int) -> None:
    print(
        f"{name:8s} {loading:6.2f} s to load, {scoring:6.2f} s to score, "
        f"{1000 * scoring / count:.2f} s per 1,000 captions, {loading + scoring:.2f} s in all"
    )


if __name__ == "__main__":
    main()
