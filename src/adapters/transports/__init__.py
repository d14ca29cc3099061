"""How clients reach the Gateway."""
