"""Small working fakes and servers, which record their calls, shared by the tests."""
