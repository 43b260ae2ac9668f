"""One module for each library that is compared, with two functions.

`prepare(system, checkpoint, folder)` converts a checkpoint; `load(system, folder, threads)` returns a function from
prompts and a number of new tokens to a Timing. A module imports its library in these functions only.
"""
