"""Submissions: written, checked (and later sent). Tables only."""
