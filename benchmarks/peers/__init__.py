"""neort next to other systems, each in a process and a virtual environment of its own."""
