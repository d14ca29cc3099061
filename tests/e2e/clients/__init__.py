"""Programs as users write them, each run as a process of its own."""
