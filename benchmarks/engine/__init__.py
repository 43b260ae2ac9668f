"""The runtime by itself: its cache, its threads, its nodes, and drafted tokens."""
