"""Who trains a run: the readable reference loop, many seeds in lockstep, and what looks on."""
