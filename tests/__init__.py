"""Tests of bnstudy; they mirror its modules."""
