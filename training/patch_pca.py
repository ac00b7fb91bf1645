"""Principal components of image patches: where the pocket model's latent space comes from.

A patch of `p x p` pixels becomes a few channels, most of the picture at once and without training.
Components are divided by the square root of their deviation: half-way to white noise, so that fine detail
gets a say but does not drown the rest. `write_into` puts the same linear map into the weights of diffusers'
AutoencoderKL, so that the latent space is an ordinary VAE's to everybody else.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F


class PatchPCA(nn.Module):
    """Linear encoder and decoder between images [B, 3, H, W] in -1..1 and latents [B, C, H / p, W / p]."""

    def __init__(self, patch: int, channels: int):
        super().__init__()
        self.patch = patch
        self.register_buffer("mean", torch.zeros(3 * patch**2))
        self.register_buffer("encoder", torch.zeros(channels, 3 * patch**2))
        self.register_buffer("decoder", torch.zeros(3 * patch**2, channels))

    def fit(self, images: Tensor) -> PatchPCA:
        patches = F.unfold(images, self.patch, stride=self.patch).permute(0, 2, 1).flatten(0, 1)
        self.mean.copy_(patches.mean(0))
        variances, vectors = torch.linalg.eigh(torch.cov(patches.T.double()))
        channels = len(self.encoder)
        deviations = variances.flip(0)[:channels].sqrt()
        vectors = vectors.flip(1)[:, :channels]
        spread = (
            deviations.sqrt() * deviations.mean().sqrt()
        )  # leaves channel i a variance of deviation_i / mean
        self.encoder.copy_((vectors / spread).T)
        self.decoder.copy_(vectors * spread)
        return self

    @torch.no_grad()
    def read_from(self, vae: AutoencoderKL) -> PatchPCA:
        """The inverse of `write_into`: an exported model's basis, for networks that have learned to read it."""
        pixels = torch.cat([torch.zeros(1, 3 * self.patch**2), torch.eye(3 * self.patch**2)])
        patches = pixels.view(-1, 3, self.patch, self.patch)
        offset, *rows = vae.encode(patches).latent_dist.mode().flatten(1).double()
        self.encoder.copy_((torch.stack(rows) - offset).T)
        # The basis is orthogonal, each direction divided by its spread.
        inverse = self.encoder / self.encoder.square().sum(1, keepdim=True)
        self.decoder.copy_(inverse.T)
        self.mean.copy_(-inverse.T @ offset.to(inverse.dtype))
        return self

    def encode(self, images: Tensor) -> Tensor:
        height, width = (side // self.patch for side in images.shape[-2:])
        patches = F.unfold(images, self.patch, stride=self.patch)
        centred = patches - self.mean[:, None].to(patches.dtype)
        return (self.encoder.to(patches.dtype) @ centred).unflatten(-1, (height, width))

    def decode(self, latents: Tensor) -> Tensor:
        patches = self.decoder @ latents.flatten(-2) + self.mean[:, None]
        sides = tuple(side * self.patch for side in latents.shape[-2:])
        return F.fold(patches, sides, self.patch, stride=self.patch)

    @torch.no_grad()
    def write_into(self, vae: AutoencoderKL) -> None:
        """Makes `vae.encode(x).latent_dist.mode()` this linear map, to about 1 part in 1,000.

        A ResNet block whose second convolution is zero passes its input on; a stride-2 convolution gathers
        2 x 2 pixels into four times the channels; log2(p) of them gather the patch. GroupNorm and SiLU,
        which close every encoder, are made harmless: each group holds every value together with its
        negative, so its mean is zero, and a constant so large that it alone decides the deviation; and SiLU
        is the identity far to the right of zero.
        """
        encoder = vae.encoder
        *gathering, last = encoder.down_blocks
        if 2 ** len(gathering) != self.patch:
            raise ValueError(
                f"patches of {self.patch} px need {self.patch.bit_length()} levels of VAE channels"
            )
        for resnet in (r for b in (*encoder.down_blocks, encoder.mid_block) for r in b.resnets):
            resnet.conv2.weight.zero_()
            resnet.conv2.bias.zero_()
            if resnet.conv_shortcut is not None:
                pass_on(resnet.conv_shortcut)
        pass_on(encoder.conv_in)

        # How the latents read what is still to be gathered: [C, channels so far, k, k] for k x k pixels.
        kernel = self.encoder.unflatten(1, (3, self.patch, self.patch))
        for block in gathering[:-1]:
            gather(block.downsamplers[0].conv, kernel.shape[1])
            half = kernel.shape[-1] // 2
            kernel = kernel.unflatten(3, (half, 2)).unflatten(2, (half, 2))  # C, in, k, row, k, column
            kernel = kernel.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
        reader = gathering[-1].downsamplers[0].conv
        reader.weight.zero_()
        reader.bias.zero_()
        channels = len(self.encoder)
        reader.weight[:channels, : kernel.shape[1], :2, :2] = kernel
        reader.bias[:channels] = -self.encoder @ self.mean

        norm = encoder.conv_norm_out
        per_group = norm.num_channels // norm.num_groups
        constant, offset = 100.0, 20.0
        spread = last.resnets[0].conv_shortcut
        spread.weight.zero_()
        spread.bias.zero_()
        encoder.conv_out.weight.zero_()
        encoder.conv_out.bias[:channels] = -offset
        encoder.conv_out.bias[channels:] = -30.0  # log-variance: the encoder is deterministic
        for i in range(channels):
            pair = 2 + 2 * (i // norm.num_groups)
            if pair + 2 > per_group:
                raise ValueError(f"{channels} latent channels do not fit into {norm.num_channels} VAE channels")
            slot = (i % norm.num_groups) * per_group + pair
            spread.weight[slot, i], spread.weight[slot + 1, i] = 1, -1
            encoder.conv_out.weight[i, slot, 1, 1] = 1
        spread.bias[0::per_group] = constant
        spread.bias[1::per_group] = -constant
        norm.weight.fill_(constant * (2 / per_group) ** 0.5)
        norm.bias.fill_(offset)


def pass_on(conv: nn.Conv2d) -> None:
    """The first channels go through unchanged."""
    conv.weight.zero_()
    conv.bias.zero_()
    centre = conv.kernel_size[0] // 2
    for i in range(min(conv.in_channels, conv.out_channels)):
        conv.weight[i, i, centre, centre] = 1


def gather(conv: nn.Conv2d, in_channels: int) -> None:
    """Space to depth: the 2 x 2 pixels under the stride-2 convolution become 4 * in_channels channels."""
    conv.weight.zero_()
    conv.bias.zero_()
    for row in range(2):
        for column in range(2):
            for i in range(in_channels):
                conv.weight[(2 * row + column) * in_channels + i, i, row, column] = 1
