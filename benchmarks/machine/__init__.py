"""The machine itself: what it can do at most, what other CPUs compute, what an installation takes."""
