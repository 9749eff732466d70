"""Tests of ``bnstudy.networks``."""
