"""Attacks, as tables to add to: what a model is talked into, results that imitate people, decisions
of those who may not decide, leaks. Paths are in tests/tools/test_path_escapes.py, addresses in
tests/tools/builtin/test_web_fetch.py."""
