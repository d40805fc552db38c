"""The training that TrainCheck is shown: Gemma 3 of one layer, text alone, three steps; a script, as it rewrites one.

    traincheck-collect -p benchmarks/traincheck_training.py --models-to-track model --output-dir right
    traincheck-infer -f right -o invariants.json
    FAULT=detached traincheck-collect -p ... --models-to-track model --output-dir wrong --invariants invariants.json
    traincheck-check --trace-folders wrong --invariants invariants.json

In: FAULT, "detached" or "left-out", or nothing; DATA, the seed of the ids. Out: what TrainCheck writes.
"""

import os

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

torch.manual_seed(0)
config = Gemma3TextConfig(
    vocab_size=64,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    sliding_window=8,
    layer_types=["full_attention"],
    attn_implementation="eager",
)
model = Gemma3ForCausalLM(config)
model.train()
fault = os.environ.get("FAULT", "")
if fault == "detached":
    layer = model.model.layers[0]
    whole = layer.mlp.forward
    layer.mlp.forward = lambda x: whole(x).detach()
trained = [weight for name, weight in model.named_parameters() if fault != "left-out" or "mlp" not in name]
optimizer = torch.optim.AdamW(trained, lr=1e-3)
data = torch.randint(1, 60, (3, 1, 8), generator=torch.Generator().manual_seed(int(os.environ.get("DATA", "1"))))
for step in range(3):
    ids = data[step]
    optimizer.zero_grad()
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    optimizer.step()
    print("step", step, float(loss))
