"""Arrays in, numbers out: pure functions with shapes, units and sources in their docstrings."""
