"""What connects the domain to the world, one package for each kind of port."""
