"""Does I4VGen make better videos than the model without it? `python -m benchmarks.evidence` measures it."""
