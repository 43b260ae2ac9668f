"""neort within other projects, one in each file; none is imported before it is asked for."""
