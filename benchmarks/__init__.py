"""Benchmarks: one module per question, run from the repository root as `python -m benchmarks.ROOM.QUESTION`.

Each writes a file in `results`, from which `benchmarks.report` makes the tables and plots of the documents; README.md
has the list. Imports go down only: harness <- checkpoints, machine <- peers, formats, exporter, engine <- report.
"""
