"""Makes vqa_accuracy.json: what the official VQA script says of every case of its normalisation.

    python tests/golden/vqa_accuracy.py VQA

VQA is a copy of github.com/GT-Vision-Lab/VQA. Its evaluation is written for Python 2; what is changed before it runs
here is in `official`. The cases are made from the script's own tables, so that no entry is missing.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ANNOTATORS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", type=Path)
    script = official(parser.parse_args().repository)
    tables = script(SimpleNamespace(getQuesIds=list), None)
    normalized = {}
    for text in texts(tables):
        once = text.replace("\n", " ").replace("\t", " ").strip()
        normalized[text] = tables.processDigitArticle(tables.processPunctuation(once))
    asked = questions(sorted(normalized), normalized)
    truth = SimpleNamespace(qa={row["id"]: for_script(row) for row in asked}, getQuesIds=lambda: range(len(asked)))
    said = SimpleNamespace(qa={row["id"]: {"answer": row["answer"]} for row in asked})
    judge = script(truth, said, n=10)
    judge.evaluate()
    for row in asked:
        row["accuracy"] = judge.evalQA[row.pop("id")] / 100
        row["truths"] = Counter(row["truths"])
    golden = {"normalized": [normalized], "questions": asked, "accuracy": [judge.accuracy]}
    lines = [
        f'"{name}": [\n' + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]"
        for name, rows in golden.items()
    ]
    Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    print(f"{len(normalized)} texts, {len(asked)} questions, overall {judge.accuracy['overall']}")


def official(repository: Path) -> type[Any]:
    """The class VQAEval. Python 3 needs brackets at `print`, and re.ASCII to mean by a digit what Python 2 meant."""
    source = (repository / "PythonEvaluationTools" / "vqaEvaluation" / "vqaEval.py").read_text("utf-8")
    source = re.sub(r'print ("[^"]*")', r"print(\1)", source)
    source = re.sub(r're\.compile\(("[^"]*")\)', r"re.compile(r\1, re.ASCII)", source)
    names: dict[str, Any] = {}
    exec(compile(source, "vqaEval.py", "exec"), names)
    return names["VQAEval"]  # type: ignore[no-any-return]


def texts(tables: Any) -> list[str]:
    """Every table entry alone and in a sentence, every sign in every position, and what else has a rule."""
    words = [*tables.contractions, *tables.contractions.values(), *tables.manualMap, *tables.articles]
    words += ["im", "ive", "hell", "well", "shell", "ill", "wed", "shed", "were", "its", "lets", "shes", "eleven", "no"]
    cases = list(words) + [word.upper() for word in words] + [f"the {word} dog" for word in words]
    for sign in [*tables.punct, ".", ":", "'", "&", "%", "$", "*", "#", "~", "|", "^", "’", "…"]:
        cases += [f"{sign}", f"a{sign}b", f"{sign}ab", f"ab{sign}", f"ab{sign} cd", f"ab {sign}cd", f"ab {sign} cd"]
        cases += [f"a{sign}b{sign} c", f"3{sign}5", f"3{sign}x", f"x{sign}3", f"1,000 a{sign}b", f"{sign}{sign}a"]
        cases += [f"red{sign}dont{sign}two", f"don{sign}t", f"{sign}5", f"5{sign}"]
    cases += ["two\ndogs", "two\tdogs", "\tyes\n", "  yes  ", "a\n\nb", "a  b", "", " ", "the", "a an the", "The The"]
    cases += [
        "." * 40 + "x",
        "x" + "." * 32,
        "x" + "." * 33,
        "3.5.",
        "3.a",
        ".5",
        "v.2.0",
        "e.g. this",
        "no.",
        "U.S.A.",
    ]
    cases += ["1,000", "1,000,000 dogs", "1, 2", "1 ,2", "a,b 1,2", "10-20, 30", "yes/no", "black-and-white", "t-shirt"]
    cases += [
        "One Two",
        "none of them",
        "ten-ten",
        "someone's",
        "it's the dog's",
        "Ümlaut",
        "ÉCOLE",
        "東京",
        "naïve café",
    ]
    return list(dict.fromkeys(cases))


def questions(answers: list[str], normalized: dict[str, str]) -> list[dict[str, Any]]:
    """Each text as an answer, and each as a truth, with 0 to 10 equal annotators, some of whom write it otherwise."""
    asked: list[dict[str, Any]] = []

    def ask(answer: str, truths: list[str]) -> None:
        kinds = ["what is", "how many", "is the", "none of the above"], ["yes/no", "number", "other"]
        row = {"id": len(asked), "answer": answer, "truths": truths}
        for name, names in zip(("question_type", "answer_type"), kinds):
            row[name] = names[len(asked) % len(names)]
        asked.append(row)

    for number, text in enumerate(answers):
        equal, other = number % (ANNOTATORS + 1), answers[number * 7 % len(answers)]
        ask(text, [normalized[text]] * equal + [other] * (ANNOTATORS - equal))
        ask(normalized[text], [text] * equal + [other] * (ANNOTATORS - equal))
    for text in [
        "Yes",
        "yes",
        "yes.",
        "two",
        "2",
        " yes",
        "yes\n",
        "a dog",
        "dog",
    ]:
        ask(text, ["yes"] * ANNOTATORS)  # all agree: compared as written
        ask(text, [" yes\n"] * ANNOTATORS)
        ask(text, ["two"] * ANNOTATORS)
        ask(text, ["A dog"] * ANNOTATORS)
        ask(text, ["yes"] * (ANNOTATORS - 1) + ["Yes"])
    for annotators in (1, 2, 3, 4, 5, 11):
        for equal in range(annotators + 1):
            ask("red", ["red"] * equal + ["blue"] * (annotators - equal))
    return asked


def for_script(row: dict[str, Any]) -> dict[str, Any]:
    answers = [{"answer": text, "answer_id": number} for number, text in enumerate(row["truths"])]
    return {"answers": answers, "question_type": row["question_type"], "answer_type": row["answer_type"]}


if __name__ == "__main__":
    main()
