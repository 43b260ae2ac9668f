"""Past one process: how work, memory and figures divide among several."""
