"""The example table: raw tables, cells, leaks, pseudo-labels, checks."""
