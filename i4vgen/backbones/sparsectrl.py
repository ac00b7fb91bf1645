"""SparseCtrl (arXiv 2311.16933): AnimateDiff with a second encoder that sees the first frame.

The anchor is that frame, so every video, a vanilla one too, is image-to-video. Candidates are single images
and drawn without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import SparseControlNetModel
from torch import nn

from i4vgen import hub
from i4vgen.backbones.animatediff import (
    AnimateDiffBackbone,
    adopt_motion_modules,
    load_parts,
)
from i4vgen.backbones.memory import Memory
from i4vgen.backbones.own_settings import read_config
from i4vgen.backbones.stable_diffusion import PromptEmbeds
from i4vgen.errors import ModelError
from i4vgen.generation_config import Defaults

# What a UNet and a controlnet must have in common for one's features to be added to the other's.
SHARED = ("block_out_channels", "layers_per_block", "cross_attention_dim")


class SparseCtrlBackbone(AnimateDiffBackbone):
    """AnimateDiff on which a controlnet imprints the anchor as the first frame.

    The controlnet sees a video of latents that is the anchor in its first frame and empty elsewhere, and a
    mask that says so. It does not see the noisy latents (zeros stand in for them), but it is asked at every
    timestep and for both halves of the guidance. Its motion modules are those of the UNet and, like them,
    normalise each frame by itself, as the authors' sparse_controlnet.py computes them; diffusers normalises
    over all frames together.
    """

    image_to_video = True

    def __init__(self, controlnet: SparseControlNetModel, **parts: Any):
        """controlnet: with its motion modules adopted. parts: as for `AnimateDiffBackbone`."""
        self.controlnet = controlnet
        super().__init__(**parts)

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        motion_adapter: str | None,
        controlnet: str,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        memory: Memory | None = None,
        loras: Sequence[str] = (),
    ) -> SparseCtrlBackbone:
        """Loads a model in the diffusers layout.

        controlnet: a folder or hub id of a `SparseControlNetModel` that is conditioned on latents (RGB, not
        scribbles). Everything else: as for `AnimateDiffBackbone.from_pretrained`; LoRAs change the UNet, not
        the controlnet.
        """
        defaults = cls.read_defaults(model, motion_adapter, controlnet)
        dtype = dtype or hub.default_dtype(device)
        network = adopt_motion_modules(hub.load(SparseControlNetModel, controlnet, "", dtype))
        parts = load_parts(model, motion_adapter, dtype, loras)
        return cls(network, **parts, defaults=defaults, device=device, memory=memory)

    @staticmethod
    def read_defaults(model: str, motion_adapter: str | None, controlnet: str) -> Defaults:
        """The defaults of AnimateDiff with the shorter of the two longest videos. Raises `ModelError` for a
        controlnet of another kind or for another UNet.
        """
        defaults = AnimateDiffBackbone.read_defaults(model, motion_adapter)
        config, unet = read_config(controlnet), read_config(model, "unet")
        if not config.get("use_simplified_condition_embedding"):
            raise ModelError(f"the controlnet {controlnet} does not take latents: only SparseCtrl RGB does")
        if any(config.get(name) != unet.get(name) for name in SHARED):
            raise ModelError(f"the controlnet {controlnet} does not fit the UNet of {model}")
        max_frames = min(defaults.max_frames, config["motion_max_seq_length"])
        return replace(defaults, max_frames=max_frames, num_frames=min(defaults.num_frames, max_frames))

    @property
    def networks(self) -> list[nn.Module]:
        networks = super().networks
        networks.insert(networks.index(self.unet), self.controlnet)
        return networks

    def compile(self) -> None:
        self.controlnet.compile(dynamic=False)
        super().compile()

    def condition(self, prompt_embeds: PromptEmbeds, anchor: torch.Tensor) -> PromptEmbeds:
        return replace(prompt_embeds, anchor=anchor)

    def call_unet(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        embeds: torch.Tensor,
        anchor: torch.Tensor | None,
    ) -> torch.Tensor:
        num_frames = latents.shape[2]
        if anchor is None or num_frames == 1:
            return super().call_unet(latents, timestep, embeds, anchor)
        shown = torch.zeros_like(latents)
        shown[:, :, :1] = anchor
        mask = torch.zeros_like(latents[:, :1])
        mask[:, :, :1] = 1
        embeds = embeds.repeat_interleave(num_frames, dim=0)
        down, mid = self.controlnet(
            latents,
            timestep,
            encoder_hidden_states=embeds,
            controlnet_cond=shown,
            conditioning_mask=mask,
            return_dict=False,
        )
        return self.unet(
            latents,
            timestep,
            encoder_hidden_states=embeds,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
