"""The evidence on two GPUs, in one command: memory per rank beside its prediction, then training and what it saves.

    python -m benchmarks.multi_gpu_evidence DIR [--only PART] [--checkpoint FOLDER]

| part | is | writes |
|---|---|---|
| predict | memory of one rank, on the CPU, beside everything else | predicted.json |
| memory-GROUP | the same cells, measured; see `rank_memory.py` | memory-GROUP.json, and memory.json with both |
| device-map | `parity --device auto`, the model over both GPUs, beside the next | device-map/report.json |
| ddp | `accelerate launch --multi_gpu` of theworld-train, as docs/distributed.md has it | ddp.json |
| fsdp2 | the same with FSDP2, two stages, the second from what the first exported | fsdp2.json |
| saved | parity of what the first sharded stage saved, with the branch off, and drift to the second's | saved-*/ |

Each part writes when it is done, memory after each cell, so that a run that is cut off keeps what it has; a part may be
run again by itself, `saved` beside the folder that `fsdp2` filled. Without a GPU, with `--size tiny --device cpu`, all
but memory runs on gloo. Keep NCCL_NVLS_ENABLE=0 where GPUs are lent in pieces.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.noise_samples import write_noise_samples
from benchmarks.rank_memory import GROUPS, write

HERE = Path(__file__).parent
MEMORY = tuple(f"memory-{group}" for group in GROUPS)
PARTS = ("predict", *MEMORY, "device-map", "ddp", "fsdp2", "saved")
LAUNCH = {  # of docs/distributed.md
    "ddp": ("--multi_gpu", "--num_processes", "2"),
    "fsdp2": (
        "--num_processes", "2", "--use_fsdp", "--fsdp_version", "2",
        "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP", "--fsdp_cpu_ram_efficient_loading", "false",
    ),
}  # fmt: skip
# What the launcher sets for theworld-train where there is a GPU.
_ON_CPU = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
}
NUM_SAMPLES = 4
STAGES = ((1, "projection"), (2, "vision"))  # of the sharded run
FRAME_SIZES = {"4b": 224, "tiny": 32}
_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the parts run, and on what."""

    folder: Path
    checkpoint: Path
    size: str
    device: str

    @property
    def environment(self) -> dict[str, str]:
        """Of every command; what theworld-train and Accelerate look at on a machine without a GPU is set there."""
        root = HERE.parent
        paths = os.pathsep.join([str(root), str(root / "validation"), os.environ.get("PYTHONPATH", "")])
        own = {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(_THREADS if self.device == "cuda" else 1)}
        return {**os.environ, **own, **({} if self.device == "cuda" else {"ACCELERATE_USE_CPU": "true"})}

    def run(self, *command: str, log: str, more: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Run a command, with more in its environment: its exit code and seconds, and what it said in a file."""
        began, environment = time.perf_counter(), {**self.environment, **(more or {})}
        with (self.folder / f"{log}.log").open("w", encoding="utf-8") as said:
            ended = subprocess.run(command, env=environment, stdout=said, stderr=subprocess.STDOUT, check=False)
        return {"exit_code": ended.returncode, "seconds": time.perf_counter() - began}


def harness(place: Place, name: str, *arguments: str) -> dict[str, Any]:
    """Run a command of the harness: its report goes to a folder of this name."""
    command = (sys.executable, "-m", "theworld_validate", *arguments, "--output", str(place.folder / name), "--quiet")
    return place.run(*command, log=name)


def launch_command(place: Place, way: str, config: Path) -> tuple[str, ...]:
    """The documented command."""
    launch = LAUNCH[way if place.device == "cuda" else "ddp"]  # Accelerate has no FSDP on a CPU: see `_ON_CPU`
    return (sys.executable, "-m", "accelerate.commands.launch", *launch, "-m", "theworld.training", str(config))


def write_samples(folder: Path, frame_size: int) -> Path:
    """Samples of one length, each with a picture and a clip of noise."""
    words = [("Which way does it go? " * 40, "left, then up")] * NUM_SAMPLES
    return write_noise_samples(folder, words, image_side=56, frame_size=frame_size)


def training_values(place: Place, way: str) -> dict[str, Any]:
    """A config: one stage for DDP, and one more for FSDP2, which trains the vision tower in float32 shards."""
    shared = {"steps": 3, "learning_rate": 1e-5, "precision": "mixed"}
    stages = [{"name": "projection", "freeze": "projection", **shared}]
    if way == "fsdp2":
        stages.append({"name": "vision", "freeze": "vision", "gradient_checkpointing": True, **shared})
    return {
        "model": str(place.checkpoint / "gemma"),
        "cosmos": str(place.checkpoint / "cosmos"),
        "world": {"frame_size": FRAME_SIZES[place.size], "max_world_steps": 4},
        "data": {"path": str(place.folder / "data" / "samples.jsonl")},
        "output_dir": str(place.folder / way),
        "log_every_steps": 1,
        "logging": [],
        "stages": stages,
    }


def train(place: Place, way: str) -> dict[str, Any]:
    """Train as documented: exit code, and of each stage its losses, the first rank's peak and its prediction."""
    write_samples(place.folder / "data", FRAME_SIZES[place.size])
    values = training_values(place, way)
    config = place.folder / f"{way}-train.json"
    write(config, values)
    more = _ON_CPU if way == "fsdp2" and place.device == "cpu" else {}
    done = place.run(*launch_command(place, way, config), log=way, more=more)
    if done["exit_code"] == 0:
        done["stages"] = [_stage(values, number, way, place) for number in range(len(values["stages"]))]
    write(place.folder / f"{way}.json", done)
    return done


def _stage(values: dict[str, Any], number: int, way: str, place: Place) -> dict[str, Any]:
    from theworld.training.config import TrainingConfig
    from theworld.training.stages import stage_folder

    folder = stage_folder(TrainingConfig.model_validate(values), number)
    state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    steps = [entry for entry in state["log_history"] if "loss" in entry]
    found: dict[str, Any] = {"name": values["stages"][number]["name"], "losses": [step["loss"] for step in steps]}
    if place.device == "cuda":
        found["peak_allocated_bytes"] = max(step["peak_memory_bytes"] for step in steps)
        found |= _predict_stage(values, number, way, place)
        predicted = found["predicted_peak_allocated_bytes"]
        found["peak_allocated_error_percent"] = 100 * (predicted / found["peak_allocated_bytes"] - 1)
    return found


def _predict_stage(values: dict[str, Any], number: int, way: str, place: Place) -> dict[str, Any]:
    """The harness's row that is as long as the samples, for one rank; in a process that is shown no GPU."""
    stage = values["stages"][number]
    switches = {"--checkpointing": "on" if stage.get("gradient_checkpointing") else "off", "--strategy": way}
    options = {"--preset": stage["freeze"], "--precision": stage["precision"], "--gpus": "2", **switches}
    options["--text-tokens"] = str(_text_tokens(values))
    words = [word for option in options.items() for word in option]
    command = [sys.executable, "-m", "theworld_validate", "memory", "predict", "--config", place.size, *words]
    environment = {**place.environment, "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run([*command, "--json", "--quiet"], env=environment, capture_output=True, text=True, check=True)
    (row,) = json.loads(ended.stdout)["checks"][0]["measurements"]["cells"]
    return {"text_tokens": row["text_tokens"], "predicted_peak_allocated_bytes": row["peak_allocated_bytes"]}


def _text_tokens(values: dict[str, Any]) -> int:
    """Tokens of text of the first sample, as the harness's rows count them."""
    from theworld import TheWorldConfig
    from theworld.training import memory
    from theworld.training.config import TrainingConfig
    from theworld.training.data import Samples
    from theworld.training.stages import load_processor, make_collator, stage_folder

    config = TrainingConfig.model_validate(values)
    model_config: Any = TheWorldConfig.from_pretrained(stage_folder(config, 0) / "model")
    processor = load_processor(config, model_config.world_config)
    batch = make_collator(config, processor)([Samples(config.data, processor.to_frames)[0]])
    return memory._text_tokens(model_config, batch["input_ids"].shape[1])


def check_saved(place: Place) -> dict[str, Any]:
    """What the sharded stages saved: with the branch off it is Gemma 3, and the second moved the vision tower alone."""
    first, second = (str(place.folder / "fsdp2" / f"stage-{i}-{name}" / "model") for i, name in STAGES)
    return {
        "parity": harness(place, "saved-parity", "parity", "--model", first, "--device", place.device),
        "drift": harness(place, "saved-drift", "drift", first, second),
    }


def compare(folder: Path) -> list[dict[str, Any]]:
    """Measured rows beside the predicted ones, with errors in percent; also where either is not there."""
    found: dict[str, dict[str, Any]] = {}
    for path in [folder / "predicted.json", *sorted(folder.glob("memory-*.json"))]:
        for row in json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []:
            found[json.dumps(row["cell"])] = found.get(json.dumps(row["cell"]), {}) | row
    for row in found.values():
        for peak in ("peak_allocated_bytes", "peak_reserved_bytes"):
            measured, predicted = row.get(f"measured_{peak}"), row.get(f"predicted_{peak}")
            if measured is not None and predicted is not None:
                row[f"{peak.removesuffix('_bytes')}_error_percent"] = 100 * (predicted / measured - 1)
    return list(found.values())


def run_parts(place: Place, parts: Sequence[str]) -> dict[str, Any]:
    """Run the parts that were asked for, in their order; the whole is written after each."""
    done: dict[str, Any] = {}

    def note(name: str, result: Any) -> None:
        done[name] = result
        print(f"{name}: {json.dumps(result)}", flush=True)
        write(place.folder / "parts.json", {"device": place.device, "size": place.size, "parts": done})

    ranks = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script, predicting, mapping = str(HERE / "rank_memory.py"), None, None
    if "predict" in parts:
        command = [sys.executable, script, place.size, str(place.folder / "predicted.json"), "--predict"]
        environment = {**place.environment, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        predicting = subprocess.Popen(command, env=environment)
    for name in MEMORY:
        if name in parts:
            output, group = place.folder / f"{name}.json", name.removeprefix("memory-")
            command = [*ranks, script, str(place.checkpoint), str(output), "--group", group]
            note(name, place.run(*command, log=name))
            write(place.folder / "memory.json", compare(place.folder))
    if "device-map" in parts:
        gemma = ("--model", str(place.checkpoint / "gemma"), "--device", "auto")
        command = [sys.executable, "-m", "theworld_validate", "parity", *gemma]
        command += ["--output", str(place.folder / "device-map"), "--quiet"]
        mapping = subprocess.Popen(command, env=place.environment), time.perf_counter()
    if "ddp" in parts:
        note("ddp", train(place, "ddp"))
    if mapping is not None:
        note("device-map", {"exit_code": mapping[0].wait(), "seconds": time.perf_counter() - mapping[1]})
    if "fsdp2" in parts:
        note("fsdp2", train(place, "fsdp2"))
    if "saved" in parts:
        note("saved", check_saved(place))
    if predicting is not None:
        note("predict", {"exit_code": predicting.wait()})
    write(place.folder / "memory.json", compare(place.folder))
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=f"may be repeated: {PARTS}")
    parser.add_argument("--checkpoint", type=Path, help="of theworld-validate synth; made anew if missing")
    parser.add_argument("--size", choices=FRAME_SIZES, default="4b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    began = time.perf_counter()
    checkpoint = options.checkpoint or Path(tempfile.mkdtemp(), options.size)
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder.resolve()
    place = Place(folder=folder, checkpoint=checkpoint.resolve(), size=options.size, device=options.device)
    if not checkpoint.is_dir():
        made = ("synth", str(checkpoint), "--size", options.size, "--device", options.device)
        subprocess.run([sys.executable, "-m", "theworld_validate", *made], check=True, env=place.environment)
    without_gpu = () if options.device == "cuda" else MEMORY
    done = run_parts(place, [name for name in options.only or PARTS if name not in without_gpu])
    for row in json.loads((folder / "memory.json").read_text(encoding="utf-8")):
        if "peak_allocated_error_percent" in row:
            errors = (row["peak_allocated_error_percent"], row["peak_reserved_error_percent"])
            print(f"{row['configuration']:70} allocated {errors[0]:+.3f} %, reserved {errors[1]:+.2f} %")
    print(f"{time.perf_counter() - began:.0f} s in all")
    raise SystemExit(any(has_failed(result) for result in done.values()))


def has_failed(result: dict[str, Any]) -> bool:
    """Whether a part, or one of its parts, ended otherwise than well."""
    return any(has_failed(one) for one in result.values() if isinstance(one, dict)) or bool(result.get("exit_code"))


if __name__ == "__main__":
    main()
