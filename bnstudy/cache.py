"""Where downloads and compiled libraries are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return ``$BNSTUDY_CACHE``, or bnstudy's folder in the user's cache."""
    if own := os.environ.get("BNSTUDY_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bnstudy"
