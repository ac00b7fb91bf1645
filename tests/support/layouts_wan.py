"""Writes small random Wan models in the layout that the hub has them in, Wan2.1-T2V-1.3B and Wan2.2-TI2V-5B,
and LoRAs for them with the names that diffusers, ComfyUI, musubi-tuner and Wan's authors give their weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

WORDS = [
    "a",
    "the",
    "red",
    "blue",
    "rocket",
    "car",
    "corgi",
    "on",
    "beach",
    "rising",
    "static",
    "still",
    "ugly",
]

TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}
VAE = {
    "base_dim": 4,
    "z_dim": 4,
    "dim_mult": [1, 1, 2, 2],
    "num_res_blocks": 1,
    "latents_mean": [0.1, -0.2, 0.3, 0.0],
    "latents_std": [1.5, 0.8, 1.2, 2.0],
}
TEXT = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}

# The layers of a block that a LoRA changes: by diffusers' names, those of Wan's authors.
LORA_LAYERS = {
    **{
        f"{ours}.to_{layer}": f"{theirs}_attn.{layer[0]}"
        for ours, theirs in (("attn1", "self"), ("attn2", "cross"))
        for layer in ("q", "k", "v", "out.0")
    },
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}
RANK, ALPHA = 2, 1.0

# What goes before the name of a layer, and what the two factors are called.
LORA_NAMES = {
    "diffusers": ("transformer.", "lora_A.weight", "lora_B.weight"),
    "comfyui": ("diffusion_model.", "lora_down.weight", "lora_up.weight"),
    "musubi": ("lora_unet_", "lora_down.weight", "lora_up.weight"),
    "authors": ("", "lora_A.default.weight", "lora_B.default.weight"),
}

# What TI2V-5B has else: a VAE that also folds 2 x 2 pixels into channels, and a timestep for every token.
LARGER_TRANSFORMER = TRANSFORMER | {"in_channels": 6, "out_channels": 6}
LARGER_VAE = VAE | {
    "z_dim": 6,
    "decoder_base_dim": 8,
    "latents_mean": [0.1, -0.2, 0.3, 0.0, 0.2, -0.1],
    "latents_std": [1.5, 0.8, 1.2, 2.0, 1.0, 0.5],
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
}


def write_wan(
    folder: Path,
    transformer: Mapping[str, Any] = TRANSFORMER,
    vae: Mapping[str, Any] = VAE,
    text: Mapping[str, Any] = TEXT,
    flow_shift: float = 3.0,
    shards: str = "5GB",
    **index: Any,
) -> None:
    """Wan-AI/Wan2.1-T2V-1.3B-Diffusers, without the files that nothing here reads.

    The networks' sizes may be others. shards: the largest file of weights. index: more of model_index.json.
    """
    torch.manual_seed(0)
    parts = {"transformer": WanTransformer3DModel(**transformer), "vae": AutoencoderKLWan(**vae)}
    for name, network in parts.items():
        liven(network).save_pretrained(folder / name, max_shard_size=shards)
    tokenizer = umt5_tokenizer()
    config = UMT5Config(
        vocab_size=len(tokenizer), feed_forward_proj="gated-gelu", is_encoder_decoder=True, **text
    )
    UMT5EncoderModel(config).save_pretrained(folder / "text_encoder", max_shard_size=shards)
    tokenizer.save_pretrained(folder / "tokenizer")
    file = folder / "tokenizer" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": "T5Tokenizer"}))
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=flow_shift
    )
    scheduler.save_pretrained(folder / "scheduler")
    classes = {
        "_class_name": "WanPipeline",
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    (folder / "model_index.json").write_text(json.dumps(classes | index))


def write_wan_5b(folder: Path, **sizes: Any) -> None:
    """Wan-AI/Wan2.2-TI2V-5B-Diffusers."""
    sizes = {"transformer": LARGER_TRANSFORMER, "vae": LARGER_VAE, "flow_shift": 5.0, **sizes}
    more = {"boundary_ratio": None, "expand_timesteps": True, "transformer_2": [None, None]}
    write_wan(folder, **sizes, **more)


def write_wan_lora(file: Path, names: str = "diffusers", **sizes: Any) -> dict[str, torch.Tensor]:
    """A LoRA for a transformer, which may have other sizes. names: a key of `LORA_NAMES`; ComfyUI's and
    musubi's have an alpha. Gives what it adds, by the names of the transformer's weights.
    """
    transformer = WanTransformer3DModel(**TRANSFORMER | sizes)
    generator = torch.Generator().manual_seed(0)
    before, down_name, up_name = LORA_NAMES[names]
    weights, added = {}, {}
    for block in range(len(transformer.blocks)):
        for ours, theirs in LORA_LAYERS.items():
            name = f"blocks.{block}.{ours}"
            outputs, inputs = transformer.get_submodule(name).weight.shape
            down = torch.randn(RANK, inputs, generator=generator)
            up = 0.1 * torch.randn(outputs, RANK, generator=generator)
            added[f"{name}.weight"] = up @ down
            key = name if names == "diffusers" else f"blocks.{block}.{theirs}"
            key = before + (key.replace(".", "_") if names == "musubi" else key)
            weights |= {f"{key}.{down_name}": down, f"{key}.{up_name}": up}
            if names in ("comfyui", "musubi"):
                weights[f"{key}.alpha"] = torch.tensor(ALPHA)
                added[f"{name}.weight"] *= ALPHA / RANK
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, file)
    return added


def liven(network: torch.nn.Module) -> torch.nn.Module:
    """Random networks say little: their normed features fade. Larger biases make every input tell."""
    for name, weight in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.1)
    return network


def umt5_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of few pieces, of the kind that google/umt5-xxl's is: padded with 0, ended with 1."""
    letters = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -3.0)]
    pieces += [(f"\u2581{word}", -2.0) for word in WORDS] + [(letter, -5.0) for letter in letters]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = Metaspace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
