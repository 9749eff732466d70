"""Tests of ``bnstudy.report``."""
