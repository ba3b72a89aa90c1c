"""From messages to results: decompress, integrate, accumulate, evaluate."""
