"""Metrics: arrays in, numbers out, per query or sample where that is defined. numpy only."""
