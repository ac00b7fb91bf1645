"""Compares I4VGen, its ablations and the model without it, on prompts that nothing was tuned on.

    python -m benchmarks.evidence --model pocket --prompts 40 --seeds 4
    python -m benchmarks.evidence --model animatediff --judge vbench

Every prompt and seed is a file in --out, so that a run that was stopped goes on where it was, and one with
other --methods draws those that are missing. The report is in a folder there, named by the numbers of prompts
and seeds. For the pocket model, the figures are compared with those that the repository keeps. A long run can
be shared out: --add-to takes the rows.csv of a report, and goes on from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.evidence.drawing import Case, Drawer
from benchmarks.evidence.imagenet import ImageNetJudge, Probe
from benchmarks.evidence.judging import RIGHT_ENOUGH, Jury, accuracy_on_real_clips, judge_pocket, judge_vbench
from benchmarks.evidence.measured import merged
from benchmarks.evidence.methods import METHODS
from benchmarks.evidence.prompts import FIRST_SEED, OF_THE_REAL_WORLD, make_prompts, read_prompts
from benchmarks.evidence.report import Splits, write_report
from benchmarks.evidence.rows import compare_with_stored, read_rows
from benchmarks.evidence.selection import COUNTS, choice_of, select, selection_table
from i4vgen.errors import InvalidInputError
from i4vgen.serving.runtime import Runtime
from pocket.judge import FOLDER, Judge
from pocket.presets import PRESETS
from pocket.world import full_caption
from training.flow_backbone import register


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated (default all)")
    parser.add_argument(
        "--candidates",
        type=int,
        default=max(COUNTS),
        help="of each prompt and seed, among which the reward is seen to choose (default %(default)s; 0: none)",
    )
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument(
        "--judge",
        default=str(FOLDER),
        help="the folder of a pocket model's judge (default: the one that is shipped), or vbench",
    )
    parser.add_argument("--preset", choices=PRESETS, default="cpu", help="the world of a pocket model")
    parser.add_argument(
        "--prompt-file", type=Path, default=OF_THE_REAL_WORLD, help="for VBench: prompts, one on each line"
    )
    parser.add_argument(
        "--add-to",
        type=Path,
        metavar="ROWS.CSV",
        help="rows of the same weights and settings, which are reported too and not drawn again",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    args = parser.parse_args()
    args.methods = args.methods.split(",")
    if args.add_to and not args.add_to.is_file():
        parser.error(f"there is no file {args.add_to}")
    if unknown := [name for name in args.methods if name not in METHODS]:
        parser.error(f"unknown method {unknown[0]!r}: known are {', '.join(METHODS)}")
    try:
        args.prompts = (
            [(prompt, None) for prompt in read_prompts(args.prompt_file, args.prompts)]
            if args.judge == "vbench"
            else [(full_caption(shown), shown) for shown in make_prompts(PRESETS[args.preset], args.prompts)]
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return args


def main() -> None:
    args = parse_arguments()
    register()
    args.out.mkdir(parents=True, exist_ok=True)
    runtime = Runtime(args.model, args.device)
    drawer = Drawer(runtime)
    stored = read_rows(args.add_to, drawer.digest) if args.add_to else {}
    # Seed after seed, so that a run that is stopped has seen all prompts.
    cases = [
        Case(number, seed, *prompt, args.out / f"prompt-{number:03d}-seed-{seed}.npz")
        for seed in range(FIRST_SEED, FIRST_SEED + args.seeds)
        for number, prompt in enumerate(args.prompts)
    ]
    plan = {case: [m for m in args.methods if m not in stored.get(case.key, {})] for case in cases}
    if args.judge == "vbench":
        draw_missing(drawer, plan)
        measured = judge_vbench(cases, args.methods, args.out, runtime.device, runtime.defaults.fps)
        about = {"model": args.model, "prompts": [prompt for prompt, _ in args.prompts]}
        write_report(args.out, measured, about)
        return
    preset = PRESETS[args.preset]
    # Loaded before the hours of drawing, so that what is missing is missed at once.
    judge, imagenet = Judge.load(Path(args.judge)), ImageNetJudge()
    accuracy = accuracy_on_real_clips(judge, preset)
    probe = Probe.load_or_fit(args.out / f"probe-{args.preset}.safetensors", preset, imagenet)
    choices = [choice_of(count) for count in COUNTS if count <= args.candidates]
    pools = [case for case in cases if not stored.get(case.key, {}).keys() >= set(choices)]
    draw_missing(drawer, plan, pools, args.candidates)
    heads = [head for head in Judge.heads if accuracy[head] >= RIGHT_ENOUGH]
    jury = Jury(judge, heads, imagenet, probe)
    unjudged = {case: methods for case, methods in plan.items() if methods}
    drawn = merged(judge_pocket(unjudged, jury, preset), select(pools, jury))
    measured = merged(stored, drawn)
    shown = make_prompts(preset, 1 + max(number for number, _ in measured))
    about = {
        "model": args.model,
        "prompts": [full_caption(each) for each in shown],
        "accuracy": accuracy,
        "probe_accuracy": probe.accuracy,
    }
    write_report(args.out, measured, about, Splits.of(shown), [selection_table(measured)])
    if args.model == "pocket":
        print(compare_with_stored(drawn))


def draw_missing(
    drawer: Drawer, plan: Mapping[Case, Sequence[str]], pools: Collection[Case] = (), candidates: int = 0
) -> None:
    """Draws what the cases' files do not have yet. Exits if they have what another model has drawn.

    Args:
        drawer: With its model.
        plan: The methods of each case.
        pools: Cases of which candidates are drawn too.
        candidates: How many, of each.
    """
    for case, methods in tqdm(plan.items(), desc="drawing", disable=None):
        try:
            missing = drawer.undrawn(case, methods)
            pool = candidates if case in pools and drawer.lacks_pool(case, candidates) else 0
        except InvalidInputError as error:
            raise SystemExit(f"error: {error}") from error
        if missing or pool:
            drawer.draw(case, missing, pool)


if __name__ == "__main__":
    main()
