"""Tests of ``bnstudy.data``."""
