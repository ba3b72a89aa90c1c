"""From messages to results: decompress, integrate, accumulate, evaluate.

`pipeline.Reduction` is the thread; `accumulator.Accumulator` holds one accumulation.
"""
