"""Tests of the activation-statistics API."""
