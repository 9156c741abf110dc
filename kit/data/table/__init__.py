"""The example table: raw tables, cells, leaks, checks."""
