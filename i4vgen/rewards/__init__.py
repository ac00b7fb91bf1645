"""Who judges an image: one file per reward model, all speaking the protocol of `base.py`."""
