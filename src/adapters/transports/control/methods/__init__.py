"""What answers the methods of the control protocol, one module for each family."""
