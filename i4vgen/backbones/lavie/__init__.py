"""LaVie (arXiv 2309.15103): Stable Diffusion's UNet with temporal attention in every transformer."""
