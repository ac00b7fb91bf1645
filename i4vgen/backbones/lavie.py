"""LaVie (arXiv 2309.15103): Stable Diffusion's UNet, in which every transformer also looks along time.

diffusers has no LaVie, so its UNet is put together here from diffusers' blocks, under the names that the
weights have in the authors' checkpoint. Within the network frames are folded into the batch, as those blocks
want them: [B * F, C, h, w]. Two things make a video network of it: attention along time, which I4VGen skips
for a single frame (`TemporalAttention`), and norms that see all frames of a video at once
(`norm_over_frames`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, DDIMScheduler, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps, apply_rotary_emb
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from i4vgen import checkpoints, hub
from i4vgen.backbones.memory import Memory
from i4vgen.backbones.samplers import DiffusersSampler
from i4vgen.backbones.stable_diffusion import StableDiffusionBackbone
from i4vgen.errors import ModelError
from i4vgen.generation_config import Defaults

MODEL = "Vchitect/LaVie"
BASE = "CompVis/stable-diffusion-v1-4"
CHECKPOINT = "lavie_base.pt"
REMEDY = f"download it (3.64 GB) from https://huggingface.co/{MODEL}"

# LaVie's betas in the scheduler of its base, with DDIM's timesteps.
SCHEDULE = {
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}

# How far apart two frames are, in buckets as in T5 (arXiv 1910.10683): in each direction one for every
# distance below EXACT, then wider and wider ones up to FURTHEST, beyond which all distances are the same.
BUCKETS = 32
EXACT = BUCKETS // 4
FURTHEST = 32

DEFAULTS = Defaults(
    height=320,
    width=512,
    num_inference_steps=50,
    guidance_scale=7.0,
    p_re=0.8,
    max_frames=FURTHEST,
    sampler="ddpm",
    samplers=("ddpm", "ddim", "dpm++"),
)


class LaVieUNet(ModelMixin, ConfigMixin):
    """The noise in a video's latents. The sizes by default: those of lavie_base.pt."""

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
        """block_out_channels, attends: per level from the finest to the coarsest, the channels and whether it
        has transformers; the middle always has one. cross_attention_dim: of the text.
        rotary_dim: channels of a head that get rotary positions, at most all of them.
        """
        super().__init__()
        if rotary_dim > min(block_out_channels) // num_attention_heads:
            raise ValueError(f"a head has less than the {rotary_dim} channels of rotary positions")
        channels = block_out_channels[0]
        time_channels = 4 * channels

        def resnet(before: int, after: int) -> ResnetBlock:
            return ResnetBlock(
                in_channels=before,
                out_channels=after,
                temb_channels=time_channels,
                groups=norm_num_groups,
                eps=1e-5,
            )

        transformer = partial(
            Transformer,
            heads=num_attention_heads,
            cross_attention_dim=cross_attention_dim,
            rotary_dim=rotary_dim,
            groups=norm_num_groups,
        )
        levels = list(zip(block_out_channels, attends, strict=True))

        self.time_proj = Timesteps(channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(channels, time_channels)
        self.conv_in = nn.Conv2d(in_channels, channels, kernel_size=3, padding=1)

        skipped = [channels]  # of what the way down leaves for the way up
        self.down_blocks = nn.ModuleList()
        for level, (width, attend) in enumerate(levels):
            resnets = []
            for _ in range(layers_per_block):
                resnets.append(resnet(channels, width))
                channels = width
                skipped.append(width)
            downsamplers = []
            if level < len(levels) - 1:
                downsamplers.append(Downsample2D(width, use_conv=True, name="op"))
                skipped.append(width)
            attentions = [transformer(width) for _ in resnets if attend]
            self.down_blocks.append(DownBlock(resnets, attentions, downsamplers))

        resnets = [resnet(channels, channels) for _ in range(2)]
        self.mid_block = MidBlock(resnets, [transformer(channels)])

        self.up_blocks = nn.ModuleList()
        for level, (width, attend) in reversed(list(enumerate(levels))):
            resnets = []
            for _ in range(layers_per_block + 1):
                resnets.append(resnet(channels + skipped.pop(), width))
                channels = width
            attentions = [transformer(width) for _ in resnets if attend]
            upsamplers = [Upsample2D(width, use_conv=True)] if level else []
            self.up_blocks.append(UpBlock(resnets, attentions, upsamplers))

        self.conv_norm_out = nn.GroupNorm(norm_num_groups, channels, eps=1e-5)
        self.conv_out = nn.Conv2d(channels, out_channels, kernel_size=3, padding=1)

    @classmethod
    def from_weights(cls, weights: dict[str, torch.Tensor], norm_num_groups: int = 32) -> LaVieUNet:
        """The network of a state dict of the authors', around its very tensors: nothing is copied.

        norm_num_groups: the one size that the weights do not show.
        Raises `ValueError` for weights that are not a LaVie network.
        """
        try:
            config = _sizes(weights)
            with torch.device("meta"):
                unet = cls(**config, norm_num_groups=norm_num_groups)
        except KeyError as error:
            raise ValueError(f"it has no {error.args[0]}") from error
        except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
            raise ValueError(f"its sizes do not go together: {error}") from error
        wanted = unet.state_dict()
        if wrong := [key for key in wanted | weights if _shape(wanted.get(key)) != _shape(weights.get(key))]:
            here, there = _shape(weights.get(wrong[0])), _shape(wanted.get(wrong[0]))
            raise ValueError(f"{len(wrong)} weights differ, such as {wrong[0]}: {here} instead of {there}")
        unet.load_state_dict(weights, assign=True)
        return unet.requires_grad_(False).eval()

    def forward(
        self, latents: torch.Tensor, timestep: torch.Tensor, prompt_embeds: torch.Tensor
    ) -> torch.Tensor:
        """latents: [B, C, F, h, w], as is the result, of any h and w. timestep: one for all, no dimensions.
        prompt_embeds: [B, tokens, D].
        """
        num_frames = latents.shape[2]
        # [1, D]: it is added to all frames of all videos.
        time = self.time_embedding(self.time_proj(timestep[None]).to(self.dtype))
        x = self.conv_in(latents.transpose(1, 2).flatten(0, 1))
        skips = [x]
        for block in self.down_blocks:
            skips += block(skips[-1], time, prompt_embeds, num_frames)
        x = self.mid_block(skips[-1], time, prompt_embeds, num_frames)
        for block in self.up_blocks:
            x = block(x, skips, time, prompt_embeds, num_frames)
        x = self.conv_out(F.silu(norm_over_frames(self.conv_norm_out, x, num_frames)))
        return x.unflatten(0, (-1, num_frames)).transpose(1, 2)


class Block(nn.Module):
    """One level of the UNet. attentions: one after each ResNet, or none."""

    def __init__(self, resnets: Iterable[nn.Module], attentions: Iterable[nn.Module]):
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList(attentions)

    def layer(
        self, index: int, x: torch.Tensor, time: torch.Tensor, prompt_embeds: torch.Tensor, num_frames: int
    ) -> torch.Tensor:
        x = self.resnets[index](x, time, num_frames)
        return self.attentions[index](x, prompt_embeds, num_frames) if self.attentions else x


class DownBlock(Block):
    """downsamplers: one, or none on the coarsest level."""

    def __init__(
        self,
        resnets: Iterable[nn.Module],
        attentions: Iterable[nn.Module],
        downsamplers: Iterable[nn.Module],
    ):
        super().__init__(resnets, attentions)
        self.downsamplers = nn.ModuleList(downsamplers)

    def forward(
        self, x: torch.Tensor, time: torch.Tensor, prompt_embeds: torch.Tensor, num_frames: int
    ) -> list[torch.Tensor]:
        """What every layer gives: the way up sees all of them, the next level the last one."""
        outputs = []
        for index in range(len(self.resnets)):
            x = self.layer(index, x, time, prompt_embeds, num_frames)
            outputs.append(x)
        return outputs + [downsample(x) for downsample in self.downsamplers]


class MidBlock(Block):
    """Two ResNets with a transformer between them."""

    def forward(
        self, x: torch.Tensor, time: torch.Tensor, prompt_embeds: torch.Tensor, num_frames: int
    ) -> torch.Tensor:
        x = self.layer(0, x, time, prompt_embeds, num_frames)
        return self.resnets[1](x, time, num_frames)


class UpBlock(Block):
    """upsamplers: one, or none on the finest level."""

    def __init__(
        self,
        resnets: Iterable[nn.Module],
        attentions: Iterable[nn.Module],
        upsamplers: Iterable[nn.Module],
    ):
        super().__init__(resnets, attentions)
        self.upsamplers = nn.ModuleList(upsamplers)

    def forward(
        self,
        x: torch.Tensor,
        skips: list[torch.Tensor],
        time: torch.Tensor,
        prompt_embeds: torch.Tensor,
        num_frames: int,
    ) -> torch.Tensor:
        """skips: what the way down left; each layer takes the last of them off the list."""
        for index in range(len(self.resnets)):
            x = self.layer(index, torch.cat([x, skips.pop()], dim=1), time, prompt_embeds, num_frames)
        for upsample in self.upsamplers:
            # Not twice the size: an odd number of rows was rounded up on the way down.
            x = upsample(x, skips[-1].shape[-2:])
        return x


class ResnetBlock(ResnetBlock2D):
    """diffusers' block, with norms over all frames."""

    time_emb_proj: nn.Linear  # never left out here

    def forward(self, x: torch.Tensor, time: torch.Tensor, num_frames: int) -> torch.Tensor:
        """x: [B * F, C, h, w]. time: [1, D]."""
        hidden = self.conv1(F.silu(norm_over_frames(self.norm1, x, num_frames)))
        hidden = hidden + self.time_emb_proj(F.silu(time))[:, :, None, None]
        hidden = self.conv2(F.silu(norm_over_frames(self.norm2, hidden, num_frames)))
        return hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))


def norm_over_frames(norm: nn.GroupNorm, x: torch.Tensor, num_frames: int) -> torch.Tensor:
    """x [B * F, C, h, w], normalised with one mean and variance per group for all frames of a video."""
    if num_frames == 1:
        return norm(x)
    videos = x.unflatten(0, (-1, num_frames)).transpose(1, 2)  # [B, C, F, h, w]
    return norm(videos).transpose(1, 2).flatten(0, 1)


class Transformer(nn.Module):
    """A transformer over the places of a picture; its norm, unlike those of the ResNets, is per frame."""

    def __init__(self, channels: int, heads: int, cross_attention_dim: int, rotary_dim: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, kernel_size=1)
        self.transformer_blocks = nn.ModuleList(
            [TransformerBlock(channels, heads, cross_attention_dim, rotary_dim)]
        )
        self.proj_out = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: torch.Tensor, prompt_embeds: torch.Tensor, num_frames: int) -> torch.Tensor:
        """x: [B * F, C, h, w]. prompt_embeds: [B, tokens, D]."""
        hidden = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)  # [B * F, h * w, C]
        for block in self.transformer_blocks:
            hidden = block(hidden, prompt_embeds, num_frames)
        return x + self.proj_out(hidden.transpose(1, 2).reshape(x.shape))


class TransformerBlock(BasicTransformerBlock):
    """diffusers' block, with attention along time before its last layer."""

    norm2: nn.LayerNorm  # none of these is left out here
    norm3: nn.LayerNorm
    attn2: Attention

    def __init__(self, channels: int, heads: int, cross_attention_dim: int, rotary_dim: int):
        super().__init__(channels, heads, channels // heads, cross_attention_dim=cross_attention_dim)
        self.norm_temp = nn.LayerNorm(channels)
        self.attn_temp = TemporalAttention(channels, heads, rotary_dim)

    def forward(self, x: torch.Tensor, prompt_embeds: torch.Tensor, num_frames: int) -> torch.Tensor:
        """x: [B * F, h * w, C]."""
        frames, places, channels = x.shape
        x = x + self.attn1(self.norm1(x))
        # Every place attends to the text for itself, so the frames of a video pass as one large picture.
        queries = self.norm2(x).reshape(-1, num_frames * places, channels)
        x = x + self.attn2(queries, prompt_embeds).reshape(x.shape)
        if num_frames > 1:
            tracks = x.unflatten(0, (-1, num_frames)).transpose(1, 2).flatten(0, 1)  # [B * h * w, F, C]
            tracks = tracks + self.attn_temp(self.norm_temp(tracks))
            x = tracks.unflatten(0, (-1, places)).transpose(1, 2).reshape(frames, places, channels)
        return x + self.ff(self.norm3(x))


class TemporalAttention(Attention):
    """Attention of every place to the same place in all frames."""

    to_k: nn.Linear  # likewise
    to_v: nn.Linear
    to_out: nn.ModuleList

    def __init__(self, channels: int, heads: int, rotary_dim: int):
        super().__init__(channels, heads=heads, dim_head=channels // heads)
        self.rotary_emb = RotaryEmbedding(rotary_dim)
        self.time_rel_pos_bias = RelativePositionBias(heads)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [B * h * w, F, C]."""
        query, key, value = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B * h * w, heads, F, C / heads]
            for project in (self.to_q, self.to_k, self.to_v)
        )
        bias = self.time_rel_pos_bias(x.shape[1])
        x = F.scaled_dot_product_attention(self.rotary_emb(query), self.rotary_emb(key), value, attn_mask=bias)
        return self.to_out[0](x.transpose(1, 2).flatten(2))


class RotaryEmbedding(nn.Module):
    """Rotary positions (arXiv 2104.09864). Their frequencies are in the checkpoint."""

    freqs: torch.Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("freqs", 10000 ** -(torch.arange(0, dim, 2) / dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, heads, F, D] with its first channels turned by angles that grow with the frame."""
        frames = torch.arange(x.shape[2], device=x.device)
        angles = torch.outer(frames, self.freqs.float()).repeat_interleave(2, dim=1)
        dim = angles.shape[1]
        rotate: Any = apply_rotary_emb  # whose annotations are not what it takes and returns
        turned = rotate(x[..., :dim], (angles.cos(), angles.sin()))
        return torch.cat([turned, x[..., dim:]], dim=-1)


class RelativePositionBias(nn.Module):
    """What each head adds to the attention between two frames, by how far apart they are."""

    def __init__(self, heads: int):
        super().__init__()
        self.relative_attention_bias = nn.Embedding(BUCKETS, heads)

    def forward(self, num_frames: int) -> torch.Tensor:
        """[heads, F, F]."""
        weight = self.relative_attention_bias.weight
        # Attention kernels want its last dimension contiguous.
        return weight[distance_buckets(num_frames, weight.device)].permute(2, 0, 1).contiguous()


@torch.compiler.assume_constant_result  # else compiled code works them out in every layer at every step
def distance_buckets(num_frames: int, device: torch.device) -> torch.Tensor:
    """The bucket of every pair of frames, [F, F]."""
    return _distance_buckets(num_frames, device)


@lru_cache(maxsize=8)  # all layers at all steps want the same
def _distance_buckets(num_frames: int, device: torch.device) -> torch.Tensor:
    frames = torch.arange(num_frames)
    offsets = frames[None] - frames[:, None]
    distances = offsets.abs()
    widening = torch.log(distances.clamp(min=1) / EXACT) / math.log(FURTHEST / EXACT)
    far = (EXACT + (widening * EXACT).long()).clamp(max=2 * EXACT - 1)
    buckets = torch.where(distances < EXACT, distances, far)
    return (buckets + (offsets > 0) * (BUCKETS // 2)).to(device)


class LaVieBackbone(StableDiffusionBackbone):
    """LaVie's base model, with the text encoder and the VAE of Stable Diffusion 1.4."""

    unet: LaVieUNet

    @classmethod
    def from_pretrained(
        cls,
        model: str = MODEL,
        base: str = BASE,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        memory: Memory | None = None,
    ) -> LaVieBackbone:
        """model: a folder or hub id with lavie_base.pt. base: one in the diffusers layout, of which vae/,
        text_encoder/ and tokenizer/ are used.
        dtype: by default float16 on CUDA and float32 elsewhere, whatever the files hold.
        Raises `ModelError` if anything is missing, damaged or does not fit together.
        """
        defaults = cls.read_defaults(model, base)
        dtype = dtype or hub.default_dtype(device)
        text_encoder = hub.load(CLIPTextModel, base, "text_encoder", dtype)
        vae = hub.load_vae(base, dtype)
        unet = _load_unet(model)
        sizes = unet.config["in_channels"], unet.config["cross_attention_dim"]
        wanted = vae.config["latent_channels"], text_encoder.config.hidden_size
        if sizes != wanted:
            raise ModelError(
                f"{CHECKPOINT} of {model} works on latents of {sizes[0]} channels and text of {sizes[1]},"
                f" {base} makes {wanted[0]} and {wanted[1]}: use {BASE} with it"
            )
        nn.Module.to(unet, dtype)  # diffusers' own `to` warns of every cast
        return cls(
            unet,
            DDIMScheduler(**SCHEDULE),
            defaults,
            vae,
            text_encoder,
            cls.read_tokenizer(base),
            device=device,
            memory=memory,
        )

    @staticmethod
    def read_defaults(model: str = MODEL, base: str = BASE) -> Defaults:
        """The authors' settings. Reads no weights."""
        if Path(model).is_dir():
            hub.required_file(model, CHECKPOINT, REMEDY)
        else:
            hub.split(model)  # whether it is on the hub shows when it is loaded: that downloads it
        vae = hub.read_json(base, "vae/config.json")
        if vae is None:
            raise ModelError(f"{base} has no vae/config.json: it is not a model in the diffusers layout")
        return replace(DEFAULTS, size_multiple=2 ** (len(vae["block_out_channels"]) - 1))

    @staticmethod
    def read_tokenizer(base: str = BASE, **_: str) -> CLIPTokenizer:
        return hub.load_tokenizer(CLIPTokenizer, base, "tokenizer")

    def sampler(
        self,
        name: str,
        num_inference_steps: int,
        last: int | None = None,
        noised: bool = False,
    ) -> DiffusersSampler:
        schedule = dict(self.schedule)
        if name == "ddpm":
            # The authors' diffusers (0.16) shifts the timesteps of DDIM alone. DDPM, if they were shifted,
            # would end with a step that still adds noise.
            schedule["steps_offset"] = 0
        return DiffusersSampler(name, schedule, num_inference_steps, last)

    def call_unet(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        embeds: torch.Tensor,
        anchor: torch.Tensor | None,
    ) -> torch.Tensor:
        return self.unet(latents, timestep, embeds)


def _shape(tensor: torch.Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)


def _sizes(weights: dict[str, torch.Tensor]) -> dict:
    """The arguments of `LaVieUNet` that the weights show. Raises `KeyError` for weights that are missing."""

    def numbered(prefix: str) -> int:
        """How many modules are listed under a prefix: 2 for prefix.0.x and prefix.1.y."""
        return len({key[len(prefix) :].split(".")[0] for key in weights if key.startswith(prefix)})

    levels = range(numbered("down_blocks."))
    block = "mid_block.attentions.0.transformer_blocks.0"
    return {
        "in_channels": weights["conv_in.weight"].shape[1],
        "out_channels": len(weights["conv_out.weight"]),
        "block_out_channels": tuple(len(weights[f"down_blocks.{i}.resnets.0.conv1.weight"]) for i in levels),
        "attends": tuple(numbered(f"down_blocks.{i}.attentions.") > 0 for i in levels),
        "layers_per_block": numbered("down_blocks.0.resnets."),
        "cross_attention_dim": weights[f"{block}.attn2.to_k.weight"].shape[1],
        "num_attention_heads": weights[
            f"{block}.attn_temp.time_rel_pos_bias.relative_attention_bias.weight"
        ].shape[1],
        "rotary_dim": 2 * len(weights[f"{block}.attn_temp.rotary_emb.freqs"]),
    }


def _load_unet(model: str) -> LaVieUNet:
    """The network on the CPU, in the precision of its file and mapped from it, so it takes no memory yet."""
    file = hub.required_file(model, CHECKPOINT, REMEDY)
    weights = checkpoints.read(file, f"{REMEDY} again", "ema")
    try:
        return LaVieUNet.from_weights(weights)
    except ValueError as error:
        raise ModelError(f"{file} is not LaVie's base model ({error}): {REMEDY} again") from error
