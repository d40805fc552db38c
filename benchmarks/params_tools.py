"""Counting the 4B geometry without weights: this harness, accelerate's estimator and torchinfo; prints a table.

    pip install torchinfo && python benchmarks/params_tools.py

Each runs as a process of its own, interpreter start and imports included. accelerate's command asks the hub before
it counts; here its own functions are called on the same config, so that nothing is looked up.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from theworld.geometries import geometry

_BUILD = """
import json, sys
from diffusers import AutoencoderKLWan
from transformers import Gemma3Config, Gemma3ForConditionalGeneration
from accelerate import init_empty_weights
gemma, vae = json.loads(sys.stdin.read())
with init_empty_weights():
    models = [Gemma3ForConditionalGeneration(Gemma3Config(**gemma)), AutoencoderKLWan(**vae)]
models[0].tie_weights()
"""
_ACCELERATE = (
    _BUILD
    + """
from accelerate.utils import calculate_maximum_sizes
print("parameters", sum(calculate_maximum_sizes(model)[0] for model in models) // 4)
"""
)
_TORCHINFO = (
    _BUILD
    + """
from torchinfo import summary
print("parameters", sum(summary(model, verbose=0).total_params for model in models))
"""
)
_OURS = "from theworld_validate.cli import main\nimport sys\nsys.argv[1:] = ['params', '--config', '4b']\nmain()"


def run(code: str, stdin: str) -> tuple[float, int, int]:
    """Run code in a fresh process: seconds, peak resident bytes, and the parameters that it says there are."""
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as output:
        given.write(stdin)
        given.seek(0)
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", code], stdin=given, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            raise SystemExit(f"a tool failed: {code[-80:]}")
        output.seek(0)
        found = re.search(r"parameters ([\d,]+)|([\d,]+) parameters", output.read())
        assert found is not None
        return seconds, usage.ru_maxrss * 1024, int((found[1] or found[2]).replace(",", ""))


def main() -> None:
    import json

    shape = geometry("4b")
    stdin = json.dumps([shape.gemma_config, shape.vae_config])
    print("| tool | seconds | peak memory | parameters it counts |")
    print("|---|---|---|---|")
    for name, code in (
        ("theworld-validate params", _OURS),
        ("accelerate estimate-memory (its functions)", _ACCELERATE),
        ("torchinfo summary", _TORCHINFO),
    ):
        runs = [run(code, stdin) for _ in range(3)]
        seconds, num_bytes, parameters = sorted(runs)[1]
        print(f"| {name} | {seconds:.1f} | {num_bytes / 1e9:.2f} GB | {parameters:,} |")


if __name__ == "__main__":
    os.chdir(Path(__file__).parent.parent)
    main()
