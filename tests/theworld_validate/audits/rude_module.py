"""A module that does on import what no module should do."""

import os
import random

import torch

torch.set_grad_enabled(False)
torch.set_default_dtype(torch.float64)
torch.backends.cuda.matmul.allow_tf32 = True
torch.set_float32_matmul_precision("medium")
torch.use_deterministic_algorithms(True)
torch.backends.cudnn.benchmark = True
torch.set_num_threads(torch.get_num_threads() + 1)
torch.manual_seed(17)
random.seed(17)
os.environ["RUDE"] = "secret"
