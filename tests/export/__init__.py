"""Tests of kit/export."""
