"""What the fork server imports once, so that a worker has it at once. CUDA is not touched here, and nothing is run.

Some libraries that are imported with it start CUDA all the same: `CUDA_IS_STARTED` says so, and workers are then
started anew in place of being forked.
"""

import gc
import importlib

from theworld_validate.workers import preload_libraries  # noqa: F401

gc.disable()

import transformers.models.siglip.modeling_siglip  # noqa: E402, F401

import theworld.modeling_theworld  # noqa: E402, F401

# Rooms above this one: by name alone.
for _name in (
    "fingerprint.take",
    "parity.observing",
    "parity.questions",
    "probes.gemma3",
    "probes.general",
    "subjects.checkpoints",
):
    importlib.import_module(f"theworld_validate.{_name}")
importlib.import_module("theworld.folder_rules")
CUDA_IS_STARTED = importlib.import_module("theworld_validate.workers.cuda_state").cuda_is_started()
gc.enable()
gc.collect()
gc.freeze()  # what is imported is not looked through again, so that workers share its memory with the server
