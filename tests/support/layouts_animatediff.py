"""Writes small random models in the layouts that the hub has them in: Stable Diffusion 1.5, guoyww's motion
adapters, SparseCtrl and motion LoRAs, and image LoRAs as diffusers and kohya's scripts save them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    MotionAdapter,
    PNDMScheduler,
    SparseControlNetModel,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from tests.support.layouts_rewards import clip_tokenizer, write_hub_cache

WIDTHS, GROUPS, HEADS, TEXT_WIDTH, RANK, ALPHA = (16, 32), 8, 2, 16, 2, 1.0
MAX_FRAMES = 32  # as released

ATTENTION_LAYERS = ("to_q", "to_k", "to_v", "to_out.0")


def write_stable_diffusion(folder: Path) -> None:
    """stable-diffusion-v1-5/stable-diffusion-v1-5, without the files that nothing here reads."""
    _save(unet(), folder / "unet")
    _save(vae(), folder / "vae", {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"})
    config = json.loads((folder / "vae" / "config.json").read_text())
    del config["scaling_factor"]  # younger than this model
    (folder / "vae" / "config.json").write_text(json.dumps(config))

    text_encoder().save_pretrained(folder / "text_encoder")
    file = folder / "text_encoder" / "model.safetensors"
    weights = {f"text_model.{name.removeprefix('text_model.')}": w for name, w in load_file(file).items()}
    tokens = clip_tokenizer().model_max_length
    weights["text_model.embeddings.position_ids"] = torch.arange(tokens)[None]
    save_file(weights, file, {"format": "pt"})

    (folder / "tokenizer").mkdir()
    tokenizer = clip_tokenizer()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(tokenizer.get_vocab()))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    marks |= {"pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "tokenizer" / "special_tokens_map.json").write_text(json.dumps(marks))
    config = marks | {"model_max_length": tokens, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config))

    PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    ).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.6.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))


def write_motion_adapter(folder: Path, middle: bool = True) -> None:
    """guoyww/animatediff-motion-adapter-v1-5-2 or, without the middle block, -v1-5-3."""
    _save(motion_adapter(middle), folder)


def write_sparse_controlnet(folder: Path, latents: bool = True) -> None:
    """guoyww/animatediff-sparsectrl-rgb or, if it takes pixels, -scribble."""
    torch.manual_seed(3)
    network = SparseControlNetModel(
        conditioning_channels=4 if latents else 3,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        block_out_channels=WIDTHS,
        layers_per_block=1,
        norm_num_groups=GROUPS,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=HEADS,
        motion_max_seq_length=MAX_FRAMES,
        motion_num_attention_heads=HEADS,
        use_simplified_condition_embedding=latents,
    )
    for weight in network.parameters():
        if not weight.any():  # training begins where the controlnet changes nothing
            nn.init.normal_(weight, std=0.3)
    _save(network, folder)


def write_motion_lora(folder: Path) -> None:
    """guoyww/animatediff-motion-lora-zoom-in: made for the motion modules of v1-5-2."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {}
    for name, layer in attention_layers(motion_adapter(), "motion_modules"):
        name = name.replace(".to_", ".processor.to_").replace("to_out.0", "to_out")
        down, up = _factors(layer)
        weights |= {f"unet.{name}_lora.down.weight": down, f"unet.{name}_lora.up.weight": up}
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")


def write_image_lora(file: Path, kohya: bool = False) -> None:
    """A style for UNet and text encoder, in diffusers' format or in kohya's with more layers and an alpha."""
    weights = {}
    for name, layer in image_layers(unet(), every=kohya):
        down, up = _factors(layer)
        if kohya:
            weights |= _kohya(f"lora_unet_{name}", down, up)
        else:
            weights |= {f"unet.{name}.lora.down.weight": down, f"unet.{name}.lora.up.weight": up}
    for name, layer in text_layers(text_encoder(), every=kohya):
        down, up = _factors(layer)
        name = f"text_model.{name}"
        if kohya:
            weights |= _kohya(f"lora_te_{name}", down, up)
        else:
            name = f"text_encoder.{name}.lora_linear_layer"
            weights |= {f"{name}.down.weight": down, f"{name}.up.weight": up}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, file)


def _kohya(name: str, down: torch.Tensor, up: torch.Tensor) -> dict[str, torch.Tensor]:
    name = name.replace(".", "_")
    return {
        f"{name}.lora_down.weight": down,
        f"{name}.lora_up.weight": up,
        f"{name}.alpha": torch.tensor(ALPHA),
    }


def as_hub_cache(cache: Path, repository: str, folder: Path) -> None:
    """Puts a copy of a model into huggingface_hub's cache, as if it had been downloaded."""
    write_hub_cache(cache, repository, lambda home: shutil.copytree(folder, home, dirs_exist_ok=True))


def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=64,
        block_out_channels=WIDTHS,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=GROUPS,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=HEADS,
    )


def vae() -> AutoencoderKL:
    torch.manual_seed(1)
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[8] * 4,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
    )


def text_encoder() -> CLIPTextModel:
    torch.manual_seed(2)
    tokenizer = clip_tokenizer()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            max_position_embeddings=tokenizer.model_max_length,
            # What the released configuration says, wrong as it is.
            bos_token_id=0,
            eos_token_id=2,
            pad_token_id=1,
        )
    )


def motion_adapter(middle: bool = True) -> MotionAdapter:
    torch.manual_seed(4)
    return MotionAdapter(
        block_out_channels=WIDTHS,
        motion_layers_per_block=1,
        motion_num_attention_heads=HEADS,
        motion_norm_num_groups=GROUPS,
        motion_max_seq_length=MAX_FRAMES,
        use_motion_mid_block=middle,
    )


def attention_layers(network: nn.Module, within: str) -> Iterator[tuple[str, nn.Linear]]:
    """The names and modules of the projections in every attention of, say, the motion modules."""
    for name, module in network.named_modules():
        if within in name and name.endswith(ATTENTION_LAYERS):
            yield name, module


def image_layers(network: nn.Module, every: bool) -> Iterator[tuple[str, nn.Module]]:
    """What an image LoRA changes in a UNet: its attentions or, with kohya, every layer around them."""
    if not every:
        yield from attention_layers(network, ".attentions.")
        return
    for name, module in network.named_modules():
        if ".attentions." in name and isinstance(module, nn.Linear | nn.Conv2d):
            yield name, module


def text_layers(network: nn.Module, every: bool) -> Iterator[tuple[str, nn.Linear]]:
    """The same for the text encoder."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and (every or "self_attn" in name):
            yield name.removeprefix("text_model."), module


def _factors(layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    outputs, inputs, *kernel = layer.weight.shape
    return torch.randn(RANK, inputs, *kernel) * 0.3, torch.randn(outputs, RANK, *[1 for _ in kernel]) * 0.3


def _save(network: nn.Module, folder: Path, old_names: dict[str, str] | None = None) -> None:
    """Full precision and, beside it, the half precision that most repositories also have."""
    network.save_pretrained(folder)
    file = folder / "diffusion_pytorch_model.safetensors"
    if old_names:
        weights = load_file(file)
        for new, old in old_names.items():
            weights = {name.replace(f".{new}.", f".{old}."): weight for name, weight in weights.items()}
        save_file(weights, file, {"format": "pt"})
    halves = {name: weight.half() for name, weight in load_file(file).items()}
    save_file(halves, folder / "diffusion_pytorch_model.fp16.safetensors", {"format": "pt"})
