"""Compares the engine with recorded runs of the authors' implementation: `python -m tests.parity FILE [FILE
...]`, and rewards with recorded runs of their packages: `python -m tests.parity image_reward FOLDER [FOLDER
...]`, `python -m tests.parity hpsv2 FILE [FILE ...]`.

A file holds small random networks under the authors' key names, the noise of one run, and what the authors'
code computed from them at every stage; its metadata says with which settings. The networks go into the very
backbone and pipeline that the product runs. Each stage starts from the recording's own input of that stage,
because random networks amplify rounding; only the anchor's index is compared over the whole chain. Everything
is printed as max |ours - theirs| / max |theirs|; the exit status is 1 if any of them is above 1e-4.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNetMotionModel
from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import nn

from i4vgen.backbones.animatediff import STEP_SIZES, AnimateDiffBackbone, adopt_motion_modules
from i4vgen.backbones.guidance import PromptEmbeds
from i4vgen.backbones.lavie import backbone as lavie
from i4vgen.backbones.stable_diffusion import StableDiffusionBackbone
from i4vgen.config import Defaults, GenerationConfig
from i4vgen.errors import ModelError
from i4vgen.events import Candidate, Event, Result, Selected
from i4vgen.method.noise import Noise
from i4vgen.pipeline import I4VGenPipeline
from tests.support import parity_hpsv2, parity_image_reward, parity_lavie

TOLERANCE = 1e-4
REWARDS = {"image_reward": parity_image_reward.compare, "hpsv2": parity_hpsv2.compare}
PIXELS_PER_LATENT = 8  # only to speak of heights and widths: these networks have no VAE


class NotSupported(Exception):
    """The file holds something that the engine does not run."""


class Recording:
    """A reference file. config: its metadata. Its tensors are its items, in float32 (or integers)."""

    def __init__(self, path: str):
        try:
            with safe_open(path, "pt") as file:
                self.config = json.loads((file.metadata() or {})["config"])
                self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise NotSupported(f"it cannot be read as a reference recording ({error})") from error
        self.unet = {
            k.removeprefix("unet."): v.float() for k, v in self.tensors.items() if k.startswith("unet.")
        }

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self.tensors:
            raise NotSupported(f"it has no {name}")
        tensor = self.tensors[name]
        return tensor.float() if tensor.is_floating_point() else tensor

    def generation_config(self) -> GenerationConfig:
        """The run's settings. They come from the tensors wherever these have them."""
        num_frames, height, width = self["init_noise"].shape[2:]
        default_p_re = (lavie.DEFAULTS if parity_lavie.is_lavie(self.unet) else Defaults()).p_re
        return GenerationConfig(
            prompt="recorded",
            num_candidates=len(self["candidates"]),
            num_frames=num_frames,
            height=height * PIXELS_PER_LATENT,
            width=width * PIXELS_PER_LATENT,
            num_inference_steps=len(self["timesteps"]),
            guidance_scale=self.config["guidance_scale"],
            p_ni_vsds=self.config.get("p_ni_vsds", Defaults.p_ni_vsds),
            p_re=self.config.get("p_re", default_p_re),
        )

    def noise(self, seed: int, shape: tuple[int, int, int, int]) -> RecordedNoise:
        return RecordedNoise(self)


class RecordedNoise(Noise):
    """The noise that the authors' run drew."""

    def __init__(self, recording: Recording):
        self.recording = recording
        self.shape = tuple(recording["init_noise"].shape[1:])

    def frames(self, start: int, stop: int) -> torch.Tensor:
        return self.recording["init_noise"][0, :, start:stop].transpose(0, 1).unsqueeze(2)

    def fresh(self, name: str) -> torch.Tensor:
        return self.recording[{"ni_vsds": "ni_vsds_noise", "regeneration": "regen_noise"}[name]]

    def generator(self, name: str) -> torch.Generator:
        return torch.Generator()  # DDIM draws nothing


def build_backbone(recording: Recording) -> StableDiffusionBackbone:
    """The product's backbone around a recording's network. What it lacks, a text encoder and a VAE, comes from
    the recording too.
    """
    num_frames = recording["init_noise"].shape[2]
    if parity_lavie.is_lavie(recording.unet):
        backbone = parity_lavie.build_backbone(recording.unet, recording.config, num_frames, PIXELS_PER_LATENT)
    else:
        backbone = AnimateDiffBackbone(
            build_unet(recording),
            build_scheduler(recording),
            Defaults(max_frames=num_frames, size_multiple=PIXELS_PER_LATENT),
            step_sizes=step_sizes(recording),
        )
    embeds = recording["prompt_embeds"]
    backbone.encode_prompt = lambda *_: PromptEmbeds(prompt=embeds[1:], negative=embeds[:1])
    backbone.decode = decode
    return backbone


def decode(latents: torch.Tensor) -> np.ndarray:
    """The first three channels as colours: what the recorded runs scored in place of decoded images."""
    pixels = (latents[:, :3].clamp(-1, 1) / 2 + 0.5) * 255
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 4, 1).numpy()


class Brightness:
    """The reward of the recorded runs: the mean brightness of the image."""

    name = "brightness"

    def score(self, prompt: str, images: list[Image.Image]) -> list[float]:
        return [float(np.asarray(image, dtype=np.float64).mean()) for image in images]


class NoMotion(nn.Module):
    """Stands where the recorded network has no motion module; diffusers' UNet has one everywhere but in the
    middle.
    """

    def forward(self, hidden_states: torch.Tensor, *_, **__) -> torch.Tensor:
        return hidden_states


def numbered(keys: Iterable[str], prefix: str) -> int:
    """How many modules are listed under `prefix`: 2 for prefix.0.x, prefix.1.y."""
    return len({key[len(prefix) :].split(".")[0] for key in keys if key.startswith(prefix)})


def build_unet(recording: Recording) -> UNetMotionModel:
    """The recorded network in diffusers' class.

    What the weights show comes from the weights; the numbers of heads and norm groups from the metadata.
    """
    keys, config = recording.unet, recording.config
    foreign = [k for k in keys if ".attn_temp." in k or k.startswith("class_embedding.")]
    motion = sorted({k.split(".temporal_transformer.")[0] for k in keys if ".temporal_transformer." in k})
    if foreign or not motion:
        what = foreign[0] if foreign else "no motion modules"
        raise NotSupported(f"its network is not AnimateDiff's ({what})")

    levels = numbered(keys, "down_blocks.")
    channels = [len(keys[f"down_blocks.{i}.resnets.0.conv1.weight"]) for i in range(levels)]
    layers = [numbered(keys, f"down_blocks.{i}.resnets.") for i in range(levels)]
    kinds = {
        side: [
            ("CrossAttn" if numbered(keys, f"{side}_blocks.{i}.attentions.") else "")
            + f"{side.title()}BlockMotion"
            for i in range(levels)
        ]
        for side in ("down", "up")
    }
    inside = f"{motion[0]}.temporal_transformer.transformer_blocks."
    if numbered(keys, f"{inside}0.attention_blocks.") != 2:
        raise NotSupported("its motion modules do not have two self-attentions per block")
    linear = keys["mid_block.attentions.0.proj_in.weight"].ndim == 2
    unet = UNetMotionModel(
        in_channels=keys["conv_in.weight"].shape[1],
        out_channels=len(keys["conv_out.weight"]),
        down_block_types=kinds["down"],
        up_block_types=kinds["up"],
        block_out_channels=channels,
        layers_per_block=layers,
        norm_num_groups=config.get("norm_num_groups", 32),
        norm_eps=config.get("norm_eps", 1e-5),
        cross_attention_dim=recording["prompt_embeds"].shape[-1],
        num_attention_heads=config.get("attention_heads", 8),
        use_linear_projection=linear,
        motion_num_attention_heads=config.get("motion_heads", 8),
        motion_max_seq_length=max(32, recording["init_noise"].shape[2]),
        temporal_transformer_layers_per_block=numbered(keys, inside),
        temporal_transformer_layers_per_mid_block=numbered(keys, inside),
        use_motion_mid_block="mid_block.motion_modules.0" in motion,
    )
    # The authors' motion modules have 32 groups whatever the UNet has, as far as that divides the channels.
    groups = 32 if all(c % 32 == 0 for c in channels) else unet.config.norm_num_groups
    adopt_motion_modules(unet, config.get("motion_norm_num_groups", groups))
    for side, blocks in (("down", unet.down_blocks), ("up", unet.up_blocks)):
        for i, block in enumerate(blocks):
            for j in range(len(block.motion_modules)):
                if f"{side}_blocks.{i}.motion_modules.{j}" not in motion:
                    block.motion_modules[j] = NoMotion()
    report = unet.load_state_dict(convert_animatediff_checkpoint_to_diffusers(keys), strict=False)
    missing = [key for key in report.missing_keys if not key.endswith("pos_embed.pe")]
    if wrong := missing + report.unexpected_keys:
        raise NotSupported(f"its network has another structure ({wrong[0]})")
    return unet.requires_grad_(False).eval()


def build_scheduler(recording: Recording) -> DDIMScheduler:
    """The recorded noise schedule; what it leaves open is AnimateDiff's."""
    config = {"steps_offset": 1, "clip_sample": False, **recording.config.get("scheduler", {})}
    name = config.pop("name", "DDIM").removesuffix("Scheduler")
    unknown = set(config) - set(inspect.signature(DDIMScheduler).parameters)
    if name != "DDIM" or unknown:
        raise NotSupported(f"its scheduler is not diffusers' DDIM ({sorted(unknown)[0] if unknown else name})")
    return DDIMScheduler(**config)


def step_sizes(recording: Recording) -> list[float]:
    """The NI-VSDS step sizes: a list of the first ones, after which they are 1, one number for all steps, or
    AnimateDiff's.
    """
    sizes = recording.config.get("step_sizes", recording.config.get("step_size", STEP_SIZES))
    if isinstance(sizes, (int, float)):
        return [float(sizes)]
    return [*map(float, sizes), 1.0]


def error(ours: torch.Tensor | np.ndarray, theirs: torch.Tensor) -> float:
    """max |ours - theirs| / max |theirs|; infinite where the shapes differ or something is not a number."""
    ours, theirs = torch.as_tensor(ours).double(), theirs.double()
    if ours.shape != theirs.shape or not ours.isfinite().all():
        return float("inf")
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def video(events: Iterable[Event]) -> torch.Tensor:
    """The latents [1, C, F, h, w] of the video that a stage ends with."""
    return next(torch.from_numpy(e.latents)[None] for e in events if isinstance(e, Result))


def compare(path: str) -> dict[str, float]:
    """Runs every stage of one recording; the error of each. A wrong anchor or timestep counts as infinite."""
    recording = Recording(path)
    backbone, config = build_backbone(recording), recording.generation_config()
    pipeline = I4VGenPipeline(backbone, [Brightness()], noise=recording.noise)
    embeds = backbone.encode_prompt("", "")
    errors = {}

    sampler = backbone.sampler(config.sampler, config.num_inference_steps)
    same = [level.timestep for level in sampler.levels] == recording["timesteps"].tolist()
    errors["timesteps"] = 0.0 if same else float("inf")

    unconditional = PromptEmbeds(prompt=embeds.negative, negative=embeds.negative)
    forward = backbone.predict(recording["init_noise"], backbone.level(500), unconditional, guidance_scale=1)
    errors["one forward pass"] = error(forward.output, recording["unet_out_t500_uncond"])

    chain = []
    for event in pipeline.run(config, compare=()):
        chain.append(event)
        if isinstance(event, Selected):
            break  # the stages behind it are compared on their own
    candidates = np.stack([event.latents for event in chain if isinstance(event, Candidate)])
    errors["candidates"] = error(candidates, recording["candidates"])
    inputs = pipeline.prepare(config)
    errors["NI-VSDS"] = error(video(pipeline.distill(inputs, recording["anchor"])), recording["ni_vsds"])
    errors["regeneration"] = error(video(pipeline.regenerate(inputs, recording["ni_vsds"])), recording["final"])

    index = chain[-1].index
    wanted = recording.config["anchor_index"]
    errors[f"anchor {index}, theirs {wanted}"] = 0.0 if index == wanted else float("inf")
    return errors


def main(arguments: list[str]) -> int:
    run, paths = compare, arguments
    if arguments and arguments[0] in REWARDS:
        run, paths = REWARDS[arguments[0]], arguments[1:]
    if not paths:
        print("usage: python -m tests.parity FILE [FILE ...] | image_reward FOLDER [...] | hpsv2 FILE [...]")
        return 2
    status = 0
    for path in paths:
        print(Path(path).name)
        try:
            errors = run(path)
        except (NotSupported, ModelError) as reason:
            print(f"  not supported yet: {reason}")
            status = 1
            continue
        for stage, value in errors.items():
            print(f"  {stage:24} {value:9.2e}  {'ok' if value <= TOLERANCE else 'DIFFERS'}")
        if not all(value <= TOLERANCE for value in errors.values()):
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
