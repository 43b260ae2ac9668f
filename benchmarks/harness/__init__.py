"""What the benchmarks share: arguments, files, the machine card, results, timing, texts, and a model's work."""
