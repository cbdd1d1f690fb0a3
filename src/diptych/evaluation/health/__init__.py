"""Whether a model understands, not only how well it scores: `diptych health MODEL`, one row for each weakness.

One file for each test, `run.py` chooses what can be asked, `page.py` shows it.
"""
