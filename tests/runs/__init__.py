"""Tests of ``bnstudy.runs``."""
