"""Tests of ``bnstudy.inference``."""
