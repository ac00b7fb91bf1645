"""The reward models, with their interface in `base.py` and the scoring of images and videos in `scoring.py`."""
