"""Tests of the benchmark: that it measures at all, and that it tells the truth."""
