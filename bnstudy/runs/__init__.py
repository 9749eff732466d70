"""From a plan to a full store of runs: jobs, worker processes, records on disk, tidy tables."""
