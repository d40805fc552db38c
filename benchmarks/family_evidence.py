"""Parity of a family other than Gemma 3 at real size, on one GPU of 80 GB or more, in one command.

    python benchmarks/family_evidence.py DIR

Makes a checkpoint of Llama 3.2 3B's geometry (3,212,749,824 parameters, bfloat16) from random weights in DIR/llama, and
runs `theworld-validate parity` twice: on a plain subclass, which must pass; and on one with the lowest bit of one
weight flipped, which must fail and be placed at that weight. Reports: DIR/plain and DIR/flipped-bit. Exit 0 if both
are right.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

PLACE = "model.layers.17.mlp.up_proj.weight"


class Plain(LlamaForCausalLM):
    """A subclass that adds nothing."""


def flipped(checkpoint: str, **arguments: Any) -> Plain:
    """Load a plain subclass, and flip the lowest bit of one of its weights."""
    model = Plain.from_pretrained(checkpoint, **arguments)
    with torch.no_grad():
        model.get_parameter(PLACE).view(torch.int16)[5, 7] ^= 1
    return model


def write_checkpoint(folder: Path) -> None:
    """Write a checkpoint of random weights, the same each time on the same kind of GPU."""
    config = LlamaConfig(
        vocab_size=128_256, hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=131_072, rms_norm_eps=1e-5,
        tie_word_embeddings=True, bos_token_id=128_000, eos_token_id=128_001,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
        },
    )  # fmt: skip
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)


def run_parity(folder: Path, name: str, candidate: str) -> int:
    """Run the command as a user does; return its exit code."""
    here = str(Path(__file__).parent)
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    arguments = ["--reference", "transformers:LlamaForCausalLM", "--candidate", f"{Path(__file__).stem}:{candidate}"]
    command = [sys.executable, "-m", "theworld_validate", "parity", "--model", str(folder / "llama"), *arguments]
    command += ["--device", "cuda", "--output", str(folder / name), "--quiet"]
    return subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": path}).returncode


def main() -> None:
    folder = Path(sys.argv[1])
    if not (folder / "llama").is_dir():
        write_checkpoint(folder / "llama")
    codes = [run_parity(folder, "plain", "Plain"), run_parity(folder, "flipped-bit", "flipped")]
    placed = PLACE in (folder / "flipped-bit" / "report.json").read_text(encoding="utf-8")
    print(f"exit codes {codes}, placed: {placed}")
    raise SystemExit(codes != [0, 1] or not placed)


if __name__ == "__main__":
    main()
