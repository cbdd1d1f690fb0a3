"""Parts that know no family: each file is one idea, built from flat keyword arguments."""
