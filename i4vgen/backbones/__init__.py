"""Who draws and moves: one file per family of video models, all speaking the protocol of `base.py`."""
