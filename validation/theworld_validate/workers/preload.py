"""What the fork server imports once, so that a worker has it at once. CUDA is not touched here, and nothing is run.

Some libraries that are imported with it start CUDA all the same: `CUDA_IS_STARTED` says so, and workers are then
started anew in place of being forked.
"""

import gc
import importlib
import os
import threading
import warnings


def _prepare_libraries() -> None:
    """Keep the libraries' own progress bars and advice out of what subjects print, and let cuBLAS be deterministic."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts, and only then
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.simplefilter("ignore")
    from huggingface_hub.utils import logging as hub_logging
    from tqdm import tqdm
    from transformers.utils import logging

    hub_logging.set_verbosity(hub_logging.CRITICAL)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    # Its own lock is a semaphore, which a worker that ends at once leaves behind, and which is warned of then.
    tqdm.set_lock(threading.RLock())


_prepare_libraries()

import torch  # noqa: E402, F401
import transformers.models.gemma3.modeling_gemma3  # noqa: E402
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
gc.collect()
gc.freeze()  # what is imported is not looked through again, so that workers share its memory with the server
