"""Tests of ``bnstudy.judging``."""
