"""SparseCtrl (arXiv 2311.16933): AnimateDiff with a controlnet for the first frame.

The anchor is the first frame, so all videos of a run, including comparisons, are image-to-video. Candidate
images are generated without the controlnet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import SparseControlNetModel
from torch import Tensor, nn

from i4vgen.backbones.animatediff import AnimateDiffBackbone, adopt_motion_modules, load_parts
from i4vgen.backbones.guidance import PromptEmbeds
from i4vgen.backbones.memory import Memory
from i4vgen.backbones.own_settings import read_config
from i4vgen.config import Defaults
from i4vgen.errors import ModelError
from i4vgen.weights import hub

# Settings in which a UNet and its controlnet must agree.
SHARED = ("block_out_channels", "layers_per_block", "cross_attention_dim")


class SparseCtrlBackbone(AnimateDiffBackbone):
    """AnimateDiff with a controlnet that makes the anchor the first frame.

    The controlnet receives a video with the anchor as the first frame and 0 elsewhere, and a matching mask.
    It replaces the noisy latents with zeros, but depends on the timestep and the prompt, so it runs at every
    step and for both halves of the guidance. Its motion modules normalise each frame separately, as in the
    authors' sparse_controlnet.py.

    Args:
        controlnet: The controlnet, with its motion modules replaced (`adopt_motion_modules`).
        parts: The keyword arguments of `AnimateDiffBackbone`.
    """

    image_to_video = True

    def __init__(self, controlnet: SparseControlNetModel, **parts: Any):
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
        variant: str | None = None,
        vae: str | None = None,
    ) -> SparseCtrlBackbone:
        """Loads a model in the diffusers layout, like `AnimateDiffBackbone.from_pretrained`.

        Args:
            controlnet: A folder or hub id of a `SparseControlNetModel` conditioned on latents (RGB, not
                scribbles). LoRAs are not applied to the controlnet.
        """
        defaults = cls.read_defaults(model, motion_adapter, controlnet, vae)
        dtype = dtype or hub.default_dtype(device)
        network = adopt_motion_modules(hub.load(SparseControlNetModel, controlnet, "", dtype, variant))
        parts = load_parts(model, motion_adapter, dtype, loras, variant, vae)
        return cls(network, **parts, defaults=defaults, device=device, memory=memory)

    @staticmethod
    def read_defaults(
        model: str, motion_adapter: str | None, controlnet: str, vae: str | None = None
    ) -> Defaults:
        """Reads AnimateDiff's defaults and also applies the controlnet's limit on the number of frames.

        Raises:
            ModelError: A configuration is missing or damaged, or the controlnet does not accept latents or
                does not fit the UNet.
        """
        defaults = AnimateDiffBackbone.read_defaults(model, motion_adapter, vae)
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

    def condition(self, prompt_embeds: PromptEmbeds, anchor: Tensor) -> PromptEmbeds:
        return replace(prompt_embeds, anchor=anchor)

    def call_unet(self, latents: Tensor, timestep: Tensor, embeds: Tensor, anchor: Tensor | None) -> Tensor:
        num_frames = latents.shape[2]
        if anchor is None or num_frames == 1:
            return super().call_unet(latents, timestep, embeds, anchor)
        condition = torch.zeros_like(latents)
        condition[:, :, :1] = anchor
        mask = torch.zeros_like(latents[:, :1])
        mask[:, :, :1] = 1
        embeds = embeds.repeat_interleave(num_frames, dim=0)
        down, mid = self.controlnet(
            latents,
            timestep,
            encoder_hidden_states=embeds,
            controlnet_cond=condition,
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
