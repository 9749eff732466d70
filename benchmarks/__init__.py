"""Speed, measured side by side in one session; run by ``make bench``."""
