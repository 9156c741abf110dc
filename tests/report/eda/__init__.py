"""Tests of kit/report/eda."""
