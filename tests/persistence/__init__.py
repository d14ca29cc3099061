"""What is kept: sessions, and the events of runs."""
