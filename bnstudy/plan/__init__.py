"""What is asked before the first run: claims, arms, experiments, and the plan that freezes them."""
