"""The first of what the fork server imports: torch, and the class that everything builds on; nothing of theworld's.

CUDA is not touched here, and nothing is run. A process that is to have no more than this is forked after it: see
`audits.fresh_process`.
"""

import gc
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


gc.disable()  # imports make much and leave nothing; looking it through takes a fifth of their time
_prepare_libraries()

import torch  # noqa: E402, F401
import transformers.models.gemma3.modeling_gemma3  # noqa: E402, F401

gc.enable()
