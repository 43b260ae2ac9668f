"""Past one process and one machine: what ways in cost, and what a thousand nodes would meet."""
