"""The worked example of docs/evaluation.md prints what the page says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path


def test_the_example_prints_what_the_page_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    example = page[page.index("### A small example") :]
    code, printed = re.search(r"```python\n(.*?)```\s+```text\n(.*?)```", example, re.DOTALL).groups()
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, "docs/evaluation.md", "exec"), {})
    assert output.getvalue() == printed
    assert "R@1 0.75 chance 0.375" in printed
