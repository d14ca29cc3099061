"""For people who write agents: examples to begin with, and a Gateway for one agent."""
