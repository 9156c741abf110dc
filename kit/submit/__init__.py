"""Submissions: written, checked, and listed in a ledger. Tables only."""
