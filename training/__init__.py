"""How assets/pocket was made: a small text-to-video diffusion model trained by AnimateDiff's recipe."""
