"""The formats of a bundle: their quality, their rates, and what each of their refinements buys."""
