"""Small servers and doubles that work and remember, shared by the tests."""
