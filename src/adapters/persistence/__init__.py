"""Where sessions and run events are kept."""
