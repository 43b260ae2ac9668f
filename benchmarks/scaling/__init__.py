"""Past one process and one machine: what further processes give, what ways in cost, what many nodes would meet."""
