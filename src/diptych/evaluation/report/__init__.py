"""The report: sections as plain data in, one self-contained HTML page out."""
