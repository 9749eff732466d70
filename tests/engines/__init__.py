"""Tests of ``bnstudy.engines``."""
