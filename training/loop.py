"""One training loop for every stage: a time budget, averaged weights, and checkpoints to go on from."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import ModelMixin
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm
from transformers import PreTrainedModel

from i4vgen.weights.hub import computes_in_bfloat16
from pocket.presets import POCKET, PRESETS, Preset

WARM_UP = 100  # steps
COOL_DOWN = 0.7  # the last part of the budget, in which the learning rate falls to zero
SAVE_EVERY = 180.0  # seconds
LOG_EVERY = 200  # steps: a point of the recorded curve of the loss


@dataclass(frozen=True)
class Run:
    """Where a stage works and how long: everything from its command line."""

    stage: str
    preset: Preset
    folder: Path
    minutes: float
    device: torch.device
    start_from: Path | None = None
    pace: float = 1.0
    compiles: bool = False
    model: Path = POCKET

    def begin(self, network: nn.Module, name: str) -> nn.Module:
        """The network, with the weights of the exported model that the run starts from, if there is one."""
        if self.start_from is not None:
            trained = type(network).from_pretrained(self.start_from / name)
            network.load_state_dict(trained.float().state_dict())
        return network

    def done_before(self) -> tuple[int, float]:
        """Recorded steps and seconds of this stage behind the weights that the run starts from.

        Steps seed the batches: counted on from there, none comes twice.
        """
        known = read_figures(self.start_from) if self.start_from else {}
        past = known.get(self.stage, {})
        return past.get("steps", 0), 60 * past.get("minutes", 0.0)

    def compile(self, network: nn.Module) -> None:
        """Compiles a network of images, if the command line says so."""
        if self.compiles:
            network.to(memory_format=torch.channels_last).compile()

    def save(self, network: ModelMixin | PreTrainedModel, name: str) -> None:
        """Exports a network to the run's folder."""
        network.to(memory_format=torch.contiguous_format).save_pretrained(self.folder / name)

    def autocast(self) -> AbstractContextManager:
        """bfloat16 where the device computes in it."""
        native = self.device.type == "cuda" or computes_in_bfloat16()
        return torch.autocast(self.device.type, torch.bfloat16, enabled=native)

    def record(self, section: str, **figures: object) -> None:
        """Adds measured figures to figures.json, from which the model card is written."""
        known = read_figures(self.folder)
        known.setdefault(section, {}).update(figures)
        write_json(self.folder / "figures.json", known)
        print(section, figures)


def parse_arguments(stage: str, description: str | None = None) -> Run:
    parser = argparse.ArgumentParser(prog=f"python -m training.{stage}", description=description)
    parser.add_argument("--preset", choices=PRESETS, default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=10.0, help="time budget of this call (default 10)")
    parser.add_argument("--out", type=Path, default=None, help="run folder (default runs/PRESET)")
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="MODEL",
        help="an exported model, such as assets/pocket, to start from where there is no checkpoint",
    )
    parser.add_argument(
        "--pace",
        type=float,
        default=1.0,
        help="of the stage's learning rate; below 1 for weights that are good already (default 1)",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the networks first, which takes minutes; a step then takes about four fifths of the time",
    )
    parser.add_argument(
        "--model", type=Path, default=POCKET, help="the folder of the exported model (default assets/pocket)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    folder = args.out or Path("runs") / args.preset
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device(args.device)
    return Run(
        stage,
        PRESETS[args.preset],
        folder,
        args.minutes,
        device,
        args.start_from,
        args.pace,
        args.compile,
        args.model,
    )


def read_figures(folder: Path) -> dict[str, dict]:
    path = folder / "figures.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores"


def train(
    run: Run,
    module: nn.Module,
    loss_of: Callable[[int, torch.Generator], Tensor],
    learning_rate: float,
    ema_decay: float,
) -> None:
    """Trains the module's trainable parameters for `run.minutes`; their moving average is left in the module.

    A call goes on from the checkpoint that an earlier call left: same optimiser state, same average, a fresh
    learning-rate curve (warm-up, plateau, then linearly to zero). `loss_of(step, generator)` chooses its own
    batch by the generator, which is on the CPU; its noise is drawn on the device, which is seeded too.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    trained = nn.ParameterList(parameters)

    def update_average(values: list[Tensor], parameters: list[Tensor], count: int) -> None:
        decay = min(ema_decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(values, parameters, count)

    average = AveragedModel(trained, multi_avg_fn=update_average)
    average.n_averaged += 1  # the weights that it begins with
    path = run.folder / f"{run.stage}.checkpoint.pt"
    step, spent = run.done_before()
    if path.exists():
        saved = torch.load(path, weights_only=True, map_location=run.device)
        for parameter, value in zip(parameters, saved["parameters"], strict=True):
            parameter.data.copy_(value)
        for value, saved_value in zip(average.parameters(), saved["average"], strict=True):
            value.data.copy_(saved_value)
        optimizer.load_state_dict(saved["optimizer"])
        step, spent = saved["step"], saved["seconds"]

    budget = run.minutes * 60
    first, start, saved_at = step, time.monotonic(), time.monotonic()
    smooth = None
    curve: list[tuple[int, float]] = []
    bar = tqdm(total=round(budget), desc=run.stage, unit="s", disable=None)

    def save() -> None:
        state = {
            "parameters": [p.detach() for p in parameters],
            "average": [value.detach() for value in average.parameters()],
            "optimizer": optimizer.state_dict(),
            "step": step,
            "seconds": spent + time.monotonic() - start,
        }
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    # On a CPU the backward pass of fused attention is far slower on such short sequences than plain products.
    fused = [] if run.device.type == "cpu" else [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    with sdpa_kernel([*fused, SDPBackend.MATH]):
        while (elapsed := time.monotonic() - start) < budget:
            remaining = 1 - elapsed / budget
            factor = min(1.0, (step - first + 1) / WARM_UP, remaining / COOL_DOWN)
            for group in optimizer.param_groups:
                group["lr"] = run.pace * learning_rate * factor
            torch.manual_seed(step)
            generator = torch.Generator().manual_seed(step)
            loss = loss_of(step, generator)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            average.update_parameters(trained)
            if step % 20 == 0:
                value = loss.item()
                smooth = value if smooth is None else 0.95 * smooth + 0.05 * value
                bar.n = round(elapsed)
                bar.set_postfix(step=step, loss=f"{smooth:.4f}")
                if step % LOG_EVERY == 0:
                    curve.append((step, round(smooth, 4)))
                    if bar.disable:
                        print(f"{run.stage}: step {step}, {elapsed:.0f} s, loss {smooth:.4f}", flush=True)
            if time.monotonic() - saved_at > SAVE_EVERY:
                save()
                saved_at = time.monotonic()
    bar.close()
    if step > first:
        save()
        run.record("training", device=device_name(run.device), date=datetime.date.today().isoformat())
        before = read_figures(run.folder).get(run.stage, {})
        run.record(
            run.stage,
            steps=step,
            minutes=round((spent + time.monotonic() - start) / 60, 1),
            loss=smooth,
            curve=[*before.get("curve", []), *curve],
        )
    trained.load_state_dict(average.module.state_dict())
