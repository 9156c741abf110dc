"""Tests of kit/report."""
