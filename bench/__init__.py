"""Benchmarks of the Gateway against the limit of its stack. Not part of the package.

`python -m bench.run` measures, `python -m bench.chart` draws the results, `python -m bench.guard`
checks the hot path, `python -m bench.floor` measures the cost of single features, and
`python -m bench.stages` the time of the stages of a request.
"""
