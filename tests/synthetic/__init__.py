"""Synthetic studies: every number of a run is made up, by formula or seeded; none is trained."""
