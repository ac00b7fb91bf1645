"""The method of the paper: candidates, the anchor, NI-VSDS, regeneration and the comparisons."""
