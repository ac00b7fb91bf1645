"""The world of the pocket model, and its judge: what training/ and benchmarks/ both know."""
