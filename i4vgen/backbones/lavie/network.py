"""LaVie's network, which diffusers does not have, with the weight names of the authors' checkpoint.

The network is Stable Diffusion's UNet with frames folded into the batch, [B * F, C, h, w], and two
differences: temporal attention, which I4VGen skips for a single frame (`TransformerBlock`), and norms over
all frames of a video (`norm_over_frames`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import FeedForward
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from i4vgen.weights.checkpoints import describe_misfit

# Buckets for the distance between two frames, as in T5 (arXiv 1910.10683). In each direction, distances below
# EXACT have a bucket each, longer ones up to FURTHEST share logarithmically wider buckets, and all others
# share the last bucket.
BUCKETS = 32
EXACT = BUCKETS // 4
FURTHEST = 32


class LaVieUNet(ModelMixin, ConfigMixin):
    """Predicts the noise in a video's latents. The default sizes are those of lavie_base.pt.

    Args:
        in_channels: The channels of the latents.
        out_channels: The channels of the predicted noise.
        block_out_channels: The channels of each level, from the finest to the coarsest.
        attends: Whether each level has transformers; the middle block always has one.
        layers_per_block: The number of layers of a down block; up blocks have one more.
        cross_attention_dim: The width of the text embeddings.
        num_attention_heads: The number of heads of every attention layer.
        rotary_dim: The number of a head's channels with rotary position embeddings.
        norm_num_groups: The number of groups of the group norms.

    Raises:
        ValueError: `rotary_dim` exceeds a head's channels, or `attends` has another length than
            `block_out_channels`.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 4,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        attends: tuple[bool, ...] = (True, True, True, False),
        layers_per_block: int = 2,
        cross_attention_dim: int = 768,
        num_attention_heads: int = 8,
        rotary_dim: int = 32,
        norm_num_groups: int = 32,
    ):
        super().__init__()
        if rotary_dim > min(block_out_channels) // num_attention_heads:
            raise ValueError(f"a head has less than the {rotary_dim} channels of rotary positions")
        channels = block_out_channels[0]
        resnet = partial(ResnetBlock, time_channels=4 * channels, groups=norm_num_groups)
        transformer = partial(
            Transformer,
            heads=num_attention_heads,
            text_channels=cross_attention_dim,
            rotary_dim=rotary_dim,
            groups=norm_num_groups,
        )
        levels = list(zip(block_out_channels, attends, strict=True))

        self.time_proj = Timesteps(channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(channels, 4 * channels)
        self.conv_in = nn.Conv2d(in_channels, channels, kernel_size=3, padding=1)

        skipped = [channels]  # the channels of the skip connections
        self.down_blocks = nn.ModuleList()
        for level, (width, attend) in enumerate(levels):
            block = Block()
            for _ in range(layers_per_block):
                block.add(resnet(channels, width), transformer(width) if attend else None)
                channels = width
                skipped.append(width)
            if level < len(levels) - 1:
                block.downsamplers.append(Downsample2D(width, use_conv=True, name="op"))
                skipped.append(width)
            self.down_blocks.append(block)

        self.mid_block = Block()
        self.mid_block.add(resnet(channels, channels), transformer(channels))
        self.mid_block.add(resnet(channels, channels), None)

        self.up_blocks = nn.ModuleList()
        for level, (width, attend) in reversed(list(enumerate(levels))):
            block = Block()
            for _ in range(layers_per_block + 1):
                block.add(resnet(channels + skipped.pop(), width), transformer(width) if attend else None)
                channels = width
            if level:
                block.upsamplers.append(Upsample2D(width, use_conv=True))
            self.up_blocks.append(block)

        self.conv_norm_out = nn.GroupNorm(norm_num_groups, channels, eps=1e-5)
        self.conv_out = nn.Conv2d(channels, out_channels, kernel_size=3, padding=1)

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor], norm_num_groups: int = 32) -> LaVieUNet:
        """Builds the network from the authors' state dict without copying its tensors.

        Args:
            weights: The state dict.
            norm_num_groups: The number of norm groups, the only size that the weights do not determine.

        Raises:
            ValueError: The weights are not a LaVie network's.
        """
        try:
            config = _sizes(weights)
            with torch.device("meta"):
                unet = cls(**config, norm_num_groups=norm_num_groups)
        except KeyError as error:
            raise ValueError(f"it has no {error.args[0]}") from error
        except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
            raise ValueError(f"its sizes do not go together: {error}") from error
        if misfit := describe_misfit(unet, weights):
            raise ValueError(misfit)
        unet.load_state_dict(weights, assign=True)
        return unet.requires_grad_(False).eval()

    def forward(self, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor) -> Tensor:
        """Predicts the noise in the latents.

        Args:
            latents: The noisy latents, [B, C, F, h, w].
            timestep: The timestep, a scalar.
            prompt_embeds: The encoded prompts, [B, tokens, D].

        Returns:
            The noise, [B, C, F, h, w].
        """
        num_frames = latents.shape[2]
        time = self.time_embedding(self.time_proj(timestep[None]).to(self.dtype))  # [1, D]
        x = self.conv_in(latents.transpose(1, 2).flatten(0, 1))
        skips = [x]
        for block in self.down_blocks:
            skips += block(skips[-1], time, prompt_embeds, num_frames)
        *_, x = self.mid_block(skips[-1], time, prompt_embeds, num_frames)
        for block in self.up_blocks:
            *_, x = block(x, time, prompt_embeds, num_frames, skips)
        x = self.conv_out(F.silu(norm_over_frames(self.conv_norm_out, x, num_frames)))
        return x.unflatten(0, (-1, num_frames)).transpose(1, 2)


class Block(nn.Module):
    """A block of the UNet: ResNet blocks, optional transformers, and an optional down- or upsampler."""

    def __init__(self) -> None:
        super().__init__()
        self.resnets = nn.ModuleList()
        self.attentions = nn.ModuleList()
        self.downsamplers = nn.ModuleList()
        self.upsamplers = nn.ModuleList()

    def add(self, resnet: ResnetBlock, transformer: Transformer | None) -> None:
        """Adds a layer. Layers with a transformer must be added first."""
        self.resnets.append(resnet)
        if transformer:
            self.attentions.append(transformer)

    def forward(
        self, x: Tensor, time: Tensor, prompt_embeds: Tensor, num_frames: int, skips: list[Tensor] | None = None
    ) -> list[Tensor]:
        """Computes the outputs of all layers and of the down- or upsampler, in order.

        Args:
            x: The features, [B * F, C, h, w].
            time: The timestep embedding, [1, D].
            prompt_embeds: The encoded prompts, [B, tokens, D].
            num_frames: The number of frames F.
            skips: The skip connections of an up block, of which each layer pops the last; None for others.
        """
        outputs = []
        for index, resnet in enumerate(self.resnets):
            if skips is not None:
                x = torch.cat([x, skips.pop()], dim=1)
            x = resnet(x, time, num_frames)
            if index < len(self.attentions):
                x = self.attentions[index](x, prompt_embeds, num_frames)
            outputs.append(x)
        outputs += [downsample(x) for downsample in self.downsamplers]
        if skips:
            # Upsample to the size of the skip, because downsampling rounded odd sizes up.
            outputs += [upsample(x, skips[-1].shape[-2:]) for upsample in self.upsamplers]
        return outputs


class ResnetBlock(nn.Module):
    """Two convolutions with the timestep embedding added in between, and norms over all frames."""

    def __init__(self, before: int, after: int, time_channels: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, before, eps=1e-5)
        self.conv1 = nn.Conv2d(before, after, kernel_size=3, padding=1)
        self.time_emb_proj = nn.Linear(time_channels, after)
        self.norm2 = nn.GroupNorm(groups, after, eps=1e-5)
        self.conv2 = nn.Conv2d(after, after, kernel_size=3, padding=1)
        self.conv_shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, kernel_size=1)

    def forward(self, x: Tensor, time: Tensor, num_frames: int) -> Tensor:
        """Computes features [B * F, after, h, w] from [B * F, before, h, w] and a timestep embedding [1, D]."""
        hidden = self.conv1(F.silu(norm_over_frames(self.norm1, x, num_frames)))
        hidden = hidden + self.time_emb_proj(F.silu(time))[:, :, None, None]
        hidden = self.conv2(F.silu(norm_over_frames(self.norm2, hidden, num_frames)))
        return hidden + self.conv_shortcut(x)


def norm_over_frames(norm: nn.GroupNorm, x: Tensor, num_frames: int) -> Tensor:
    """Normalises features [B * F, C, h, w] per group, over all frames of a video together."""
    if num_frames == 1:
        return norm(x)
    videos = x.unflatten(0, (-1, num_frames)).transpose(1, 2)  # [B, C, F, h, w]
    return norm(videos).transpose(1, 2).flatten(0, 1)


class Transformer(nn.Module):
    """A transformer on the features of a video. Unlike in the ResNet blocks, the norm is per frame."""

    def __init__(self, channels: int, heads: int, text_channels: int, rotary_dim: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, kernel_size=1)
        block = TransformerBlock(channels, heads, text_channels, rotary_dim)
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor, prompt_embeds: Tensor, num_frames: int) -> Tensor:
        """Computes features [B * F, C, h, w] from features of that shape and prompts [B, tokens, D]."""
        hidden = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)  # [B * F, h * w, C]
        for block in self.transformer_blocks:
            hidden = block(hidden, prompt_embeds, num_frames)
        return x + self.proj_out(hidden.transpose(1, 2).reshape(x.shape))


class TransformerBlock(nn.Module):
    """Spatial attention, cross-attention to the text, temporal attention, and a feed-forward layer.

    A single frame skips the temporal attention.
    """

    def __init__(self, channels: int, heads: int, text_channels: int, rotary_dim: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, text_channels, heads)
        self.norm_temp = nn.LayerNorm(channels)
        self.attn_temp = TemporalAttention(channels, heads, rotary_dim)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, x: Tensor, prompt_embeds: Tensor, num_frames: int) -> Tensor:
        """Computes features [B * F, h * w, C] from features of that shape and prompts [B, tokens, D]."""
        frames, positions, channels = x.shape
        queries = self.norm1(x)
        x = x + self.attn1(queries, queries)
        # Positions attend to the text independently, so the frames of a video are one long sequence.
        queries = self.norm2(x).reshape(-1, num_frames * positions, channels)
        x = x + self.attn2(queries, prompt_embeds).reshape(x.shape)
        if num_frames > 1:
            tracks = x.unflatten(0, (-1, num_frames)).transpose(1, 2).flatten(0, 1)  # [B * h * w, F, C]
            queries = self.norm_temp(tracks)
            tracks = tracks + self.attn_temp(queries, queries)
            x = tracks.unflatten(0, (-1, positions)).transpose(1, 2).reshape(frames, positions, channels)
        return x + self.ff(self.norm3(x))


class Attention(nn.Module):
    """Multi-head attention."""

    def __init__(self, channels: int, source_channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(source_channels, channels, bias=False)
        self.to_v = nn.Linear(source_channels, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """Computes the attention of queries x, [B, N, C], to a source, [B, M, D]."""
        query, key, value = (
            project(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, N or M, C / heads]
            for project, tokens in ((self.to_q, x), (self.to_k, source), (self.to_v, source))
        )
        return self.to_out(self.attend(query, key, value).transpose(1, 2).flatten(2))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value)


class TemporalAttention(Attention):
    """Attention over the frames of each position, [B * h * w, F, C]."""

    def __init__(self, channels: int, heads: int, rotary_dim: int):
        super().__init__(channels, channels, heads)
        self.rotary_emb = RotaryEmbedding(rotary_dim)
        self.time_rel_pos_bias = RelativePositionBias(heads)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        bias = self.time_rel_pos_bias(query.shape[2])
        query, key = self.rotary_emb(query), self.rotary_emb(key)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


class RotaryEmbedding(nn.Module):
    """Rotary position embedding (arXiv 2104.09864) with the checkpoint's frequencies."""

    freqs: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("freqs", 10000 ** -(torch.arange(0, dim, 2) / dim))

    def forward(self, x: Tensor) -> Tensor:
        """Rotates pairs of the first channels of [B, heads, F, D] by angles that grow with the frame."""
        frames = torch.arange(x.shape[2], device=x.device)
        angles = torch.outer(frames, self.freqs.float())
        cos, sin = angles.cos(), angles.sin()
        dim = 2 * angles.shape[1]
        real, imaginary = x[..., :dim].float().unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack([real * cos - imaginary * sin, imaginary * cos + real * sin], dim=-1)
        return torch.cat([turned.flatten(-2).to(x.dtype), x[..., dim:]], dim=-1)


class RelativePositionBias(nn.Module):
    """A learned attention bias per head and distance between two frames."""

    def __init__(self, heads: int):
        super().__init__()
        self.relative_attention_bias = nn.Embedding(BUCKETS, heads)

    def forward(self, num_frames: int) -> Tensor:
        """Returns the attention bias, [heads, F, F]."""
        weight = self.relative_attention_bias.weight
        # Attention kernels need a contiguous last dimension.
        return weight[distance_buckets(num_frames, weight.device)].permute(2, 0, 1).contiguous()


@torch.compiler.assume_constant_result  # otherwise compiled code recomputes them in every layer and step
def distance_buckets(num_frames: int, device: torch.device) -> Tensor:
    """Returns the bucket index of every pair of frames, [F, F]."""
    return _distance_buckets(num_frames, device)


@lru_cache(maxsize=8)  # shared by all layers and steps
def _distance_buckets(num_frames: int, device: torch.device) -> Tensor:
    frames = torch.arange(num_frames)
    offsets = frames[None] - frames[:, None]
    distances = offsets.abs()
    widening = torch.log(distances.clamp(min=1) / EXACT) / math.log(FURTHEST / EXACT)
    far = (EXACT + (widening * EXACT).long()).clamp(max=2 * EXACT - 1)
    buckets = torch.where(distances < EXACT, distances, far)
    return (buckets + (offsets > 0) * (BUCKETS // 2)).to(device)


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Reads the arguments of `LaVieUNet` from the weights' shapes.

    Raises:
        KeyError: Weights are missing.
    """

    def numbered(prefix: str) -> int:
        """Counts the modules under a prefix that ends with a dot: 2 under "a." for a.0.x and a.1.y."""
        return len({key[len(prefix) :].split(".")[0] for key in weights if key.startswith(prefix)})

    levels = range(numbered("down_blocks."))
    block = "mid_block.attentions.0.transformer_blocks.0"
    bias = weights[f"{block}.attn_temp.time_rel_pos_bias.relative_attention_bias.weight"]
    return {
        "in_channels": weights["conv_in.weight"].shape[1],
        "out_channels": len(weights["conv_out.weight"]),
        "block_out_channels": tuple(len(weights[f"down_blocks.{i}.resnets.0.conv1.weight"]) for i in levels),
        "attends": tuple(numbered(f"down_blocks.{i}.attentions.") > 0 for i in levels),
        "layers_per_block": numbered("down_blocks.0.resnets."),
        "cross_attention_dim": weights[f"{block}.attn2.to_k.weight"].shape[1],
        "num_attention_heads": bias.shape[1],
        "rotary_dim": 2 * len(weights[f"{block}.attn_temp.rotary_emb.freqs"]),
    }
