"""I4VGen: an image as a stepping stone for text-to-video generation (arXiv 2406.02230), on diffusers.

Start reading at `pipeline.py` (the method), then `ni_vsds.py` (its equation 5) and `backbones/base.py` (what
a model must be able to do). `python -m i4vgen "a prompt"` runs it.
"""

__version__ = "0.1.0"
