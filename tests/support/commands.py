"""The commands of README.md, CONTRIBUTING.md and docs/, and what runs each of them.

A new command in a page belongs in one of the tables `SESSIONS`, `SERVERS`, `RUN_ELSEWHERE` or `NOT_RUN`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

PROGRAMS = "python|make|pip|i4vgen|docker|ray|hf|vbench|helm|kubectl|apt-get"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)
INLINE = re.compile(rf"`((?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?(?:{PROGRAMS}) [^`]+)`")
COMMENT = re.compile(r"(^|\s+)#.*")


@dataclass(frozen=True)
class Session:
    """Commands that a test runs one after the other in one folder.

    Attributes:
        commands: As a page has them, each with the options that make it small. {tiny} stands for the folder
            of a tiny model.
        files: Written to the folder first: contents by name.
    """

    commands: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)


SMALL = "--model pocket --candidates 2 --steps 2 --frames 4"

SESSIONS = {
    "parts of a training run": Session(
        {
            "tar c runs/flow/flow.checkpoint.pt runs/flow/figures.json runs/flow/pocket-flow"
            " | split -b 15m - flow.tar.": "",
            "cat flow.tar.* | tar x": "",
        },
        files={
            "runs/flow/flow.checkpoint.pt": "weights",
            "runs/flow/figures.json": "{}",
            "runs/flow/pocket-flow/model_index.json": "{}",
        },
    ),
}
"""Sessions that take seconds."""

SLOW_SESSIONS = {
    "a run": Session(
        {
            'python -m i4vgen "a rocket rising in a starry night" --seed 7 --compare vanilla --out rocket': (
                SMALL
            ),
            "python -m i4vgen --from rocket/i4vgen.mp4": "",
            "python -m i4vgen --help": "",
        }
    ),
    "a batch": Session(
        {
            "python -m i4vgen batch prompts.txt --out study --seeds 0-4 --compare vanilla": (
                f"{SMALL} --seeds 0-1"
            )
        },
        files={"prompts.txt": "a rocket rising\n"},
    ),
    "speed": Session(
        {
            "python -m benchmarks.speed --preset faithful": (
                "--model {tiny} --warm-up 0 --steps 2 --candidates 2"
            ),
            "python -m benchmarks.cluster": "--model {tiny} --runs 4 --candidates 2 --steps 2",
        }
    ),
    "evidence": Session(
        {
            "python -m benchmarks.evidence --help": "",
            "python -m benchmarks.evidence.noise_map": "--out noise_map.svg --clips 70",
            "python -m benchmarks.contact_sheet": "--model {tiny} --out contact_sheet.webp --pairs pairs",
        }
    ),
    "the moving picture": Session(
        {"python -m benchmarks.moving_picture": "--model {tiny} --out . --themes light"}
    ),
    "a killed server": Session({"python -m benchmarks.kills": "--moments 1 --seconds 1"}),
}
"""Sessions that take up to minutes."""

SERVERS = {
    "I4VGEN_AUTH=USER:PASSWORD python app.py --host 0.0.0.0": ("", ["/"]),
    "python app.py --host 0.0.0.0 --no-public": (
        "--models-dir ~/ComfyUI/models --mcp",
        ["/", "/config", "/gradio_api/mcp/schema"],
    ),
}
"""Commands that run until they are stopped: a test starts each with these options and asks for these paths."""

RUN_ELSEWHERE = {
    "make demo": "tests/fresh",
    "make test": ".ci/run",
    "make test-slow": ".ci/run",
    "make lint": ".ci/run",
    "make docs": ".ci/run",
    "GRADIO_ROOT_PATH=/i4vgen python app.py --public --port 7860": "test_progress_arrives_step_by_step",
    "pip install .": "test_the_wheel_runs_from_any_folder",
    "i4vgen batch prompts.txt --out study --ray local": (
        "test_one_machine_of_its_own_fails_and_stops_like_a_batch"
    ),
    "python app.py --models-dir ~/ComfyUI/models": "test_servers",
    "python app.py --mcp": "test_servers",
    "python -m tests.parity tests/data/*.safetensors": "test_every_stage_agrees_with_the_authors",
    "python -m tests.parity image_reward tests/data/image_reward_tiny": (
        "test_image_reward_agrees_with_the_package"
    ),
    "python -m tests.parity hpsv2 tests/data/hpsv2_tiny/recording.safetensors": (
        "test_hpsv2_agrees_with_open_clip_and_the_package"
    ),
    "python -m benchmarks.evidence --seeds 4 --methods vanilla,i4vgen --candidates 16": (
        "test_the_command_goes_on_where_it_was_and_reports_every_method"
    ),
    "python -m benchmarks.evidence.control NAME=ROWS.CSV": (
        "test_controls_are_held_against_the_same_prompts_and_seeds"
    ),
    "python -m benchmarks.evidence.sweep --step-sizes 0.3,0.5,0.8 --p-re 0.85,1": (
        "test_a_sweep_tries_every_setting_and_goes_on_where_it_was"
    ),
    "python -m benchmarks.evidence --prompts 10 --seeds 1": (
        "test_the_command_goes_on_where_it_was_and_reports_every_method"
    ),
    "python -m training.draw_atlas EMOJI": "test_drawings_become_one_picture",
    "python -m benchmarks.fuzz --requests 10000": "test_malformed_requests_get_a_clear_error",
    "python -m benchmarks.load --visitors 50 --minutes 13": "test_visitors_get_what_they_asked_for",
    "python -m benchmarks.speed --flops": "test_flops_of_a_full_size_model_are_counted_without_its_weights",
    "python -m benchmarks.speed --authors CHECKOUT PYTHON": "test_random_weights_run_beside_the_authors",
}
"""The script, the command of another table or the test that runs a command, with small numbers if need be."""

GPU = "needs a GPU, or hours on a CPU"
HUB = "downloads from a hub, or needs an account there"
DOCKER = "needs Docker"
SPACE = "needs a Space"
CLUSTER = "needs several machines"
PACKAGES = "installs packages"
OWN_FILES = "needs large files of your own"
BY_HAND = "takes long, and its result is for a person to look at"

NOT_RUN = {
    # README.md, CONTRIBUTING.md
    "apt-get install make git python3-venv": PACKAGES,
    "docker build -t i4vgen-studio .": DOCKER,
    "docker run -p 127.0.0.1:7860:7860 -v i4vgen-models:/home/studio/.cache/huggingface i4vgen-studio": DOCKER,
    "docker stop": DOCKER,
    "docker ps": DOCKER,
    "make space SPACE=USER/NAME": SPACE,
    "make fresh": "is itself the check of the two commands of the README's start, on a bare Debian, as root",
    "python -m tests.support.screenshots": BY_HAND,
    # docs/
    "python app.py --model wan": HUB,
    'python -m i4vgen "a corgi on a beach" --model animatediff --base SG161222/Realistic_Vision_V5.1_noVAE'
    " --lora guoyww/animatediff-motion-lora-zoom-in@0.8 --reward image_reward,pick_score"
    " --compare vanilla,freeinit": HUB,
    'python -m i4vgen "a corgi on a beach" --model realisticVision.safetensors'
    " --motion-module mm_sd_v15_v2.ckpt --vae vae-ft-mse-840000-ema-pruned.safetensors": OWN_FILES,
    'python -m i4vgen "a corgi on a beach" --model wan2.1_t2v_1.3B_fp8.safetensors': OWN_FILES,
    "python -m benchmarks.single_file --folder DIR": "writes files of 3 GB",
    "hf auth login": HUB,
    "pip install '.[cluster]'": PACKAGES,
    "pip install '.[excel]'": PACKAGES,
    "pip install s3fs": PACKAGES,
    "pip install vbench": PACKAGES,
    "vbench evaluate --videos_path study/vbench/i4vgen --dimension temporal_flickering --mode custom_input": (
        "needs the packages of VBench in an environment of their own"
    ),
    "CUDA_VISIBLE_DEVICES=1 python app.py": GPU,
    "i4vgen batch --ray local": GPU,
    "python -m benchmarks.speed --model animatediff --random-weights --warm-up 0 --preset faithful": GPU,
    "make evidence": GPU,
    "python -m training.evaluate": GPU,
    "python -m training.flow --preset small-world": GPU,
    "python -m training.flow --preset flow --minutes 6": GPU,
    "python -m benchmarks.evidence.sweep --model runs/flow/pocket-flow --preset flow --prompts 6": GPU,
    "python -m benchmarks.evidence --model runs/flow/pocket-flow --preset flow --prompts 16 --seeds 2"
    " --methods vanilla,freeinit,i4vgen,no_ni_vsds,no_regeneration": GPU,
    "python -m training.vae --minutes 0": GPU,
    "python -m training.text_to_image --minutes 120": GPU,
    "python -m training.motion --minutes 80": GPU,
    "python -m training.vae --minutes 80": GPU,
    "python -m training.reward --minutes 20": GPU,
    "python -m training.judge --minutes 20": GPU,
    "python -m training.export": GPU,
    "python -m training.card": GPU,
    "python -m tests.support.parity_image_reward": "needs the authors' package in an environment of its own",
    "python -m tests.support.parity_hpsv2": "needs the authors' package in an environment of its own",
    "ray get-auth-token --generate": CLUSTER,
    "ray start --head --port 6379 --disable-usage-stats": CLUSTER,
    "ray start --address FIRST:6379": CLUSTER,
    "ray stop": CLUSTER,
    "i4vgen batch prompts.txt --out /shared/study --ray auto": CLUSTER,
    'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)': CLUSTER,
    'srun --nodes 1 --ntasks 1 --nodelist "$head" ray start --head --port 6379 --disable-usage-stats'
    " --block &": CLUSTER,
    "sleep 20": CLUSTER,
    'srun --nodes 3 --ntasks 3 --exclude "$head" ray start --address "$head:6379" --block &': CLUSTER,
    'srun --overlap --nodes 1 --ntasks 1 --nodelist "$head" i4vgen batch prompts.txt --out /shared/study'
    " --ray auto": CLUSTER,
    "helm repo add kuberay https://ray-project.github.io/kuberay-helm/": CLUSTER,
    "helm install kuberay-operator kuberay/kuberay-operator": CLUSTER,
    "kubectl apply -f raycluster.yaml": CLUSTER,
    "kubectl exec service/i4vgen-head-svc -- i4vgen batch /shared/prompts.txt --out /shared/study --ray auto": (
        CLUSTER
    ),
}
"""Commands that no test runs, each with the reason."""


def tables() -> list[Mapping[str, object]]:
    """All tables by command."""
    sessions = [session.commands for session in (*SESSIONS.values(), *SLOW_SESSIONS.values())]
    return [*sessions, SERVERS, RUN_ELSEWHERE, NOT_RUN]


def commands(text: str) -> Iterator[str]:
    """The commands of a page: the lines of its sh blocks, and those in its sentences.

    Comments and `.venv/bin/` are left out; a line that goes on in the next is one command.
    """
    for block in BLOCK.findall(text):
        for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines():
            if command := COMMENT.sub("", line).strip():
                yield command.removeprefix(".venv/bin/")
    for command in INLINE.findall(text):
        yield re.sub(r"\s+", " ", command).removeprefix(".venv/bin/")


def is_mention(command: str, known: set[str]) -> bool:
    """Whether a command is only the beginning of a known one, such as `python -m i4vgen`."""
    return any(each.startswith(f"{command} ") for each in known)
