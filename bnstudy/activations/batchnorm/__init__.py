"""Batch normalization layers: recognition, batch moments, noise, gaps, neighbours."""
