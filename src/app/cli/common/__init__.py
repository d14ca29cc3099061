"""What every command shares: its state, refusals, options and lazy loading."""
