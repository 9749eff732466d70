"""Tests of ``bnstudy.plan``."""
