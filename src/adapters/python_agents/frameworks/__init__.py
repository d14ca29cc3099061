"""One module for each framework whose agents are recognised; each is an entry point of the group
`opensoul.python_agents`. None imports its framework before an agent of it is there."""
