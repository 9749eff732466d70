"""What batch normalization layers do to their batches: moments, noise, gaps, neighbours."""
