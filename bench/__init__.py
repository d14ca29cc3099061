"""How fast the Gateway is, measured beside the limit of its stack. Not part of the package.

`python -m bench.run` measures, `python -m bench.chart` draws, `python -m bench.guard` guards,
`python -m bench.floor` tells what the duties cost by themselves, `python -m bench.stages` where the
time of a request goes.
"""
