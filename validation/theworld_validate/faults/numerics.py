"""Faults of numerics: the same formula, rounded elsewhere or by another kernel."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from theworld_validate.compare.causes import Cause
from theworld_validate.faults.base import become, fault, rewrite_output, set_while, text_model


@fault("numerics", "transformers #37109", "buffers", r"embed_scale", Cause.BUFFER_VALUE, Cause.BUFFER_DTYPE)
def embed_scale_not_rounded(model: Any) -> None:
    embedding = model.get_input_embeddings()
    scale = embedding.scalar_embed_scale
    # float64 where the base has the model's dtype: what was rounded, or not rounded, shows in the dtype.
    embedding.embed_scale = torch.tensor(scale, dtype=torch.float64, device=embedding.weight.device)


@fault("numerics", "scale folded into the table", "buffers", r"embed_scale", Cause.BUFFER_VALUE)
def scale_folded_into_the_table(model: Any) -> None:
    embedding = model.get_input_embeddings()
    embedding.weight.data.mul_(embedding.embed_scale.to(embedding.weight.dtype))
    embedding.embed_scale.fill_(1.0)


@fault("numerics", "RMSNorm downcast early", "trace", r"layers\.2\.input_layernorm", Cause.KERNEL_CHOICE)
def norm_downcast_early(model: Any) -> None:
    norm = text_model(model).layers[2].input_layernorm
    original = type(norm)

    class Early(original):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            normed = self._norm(x.float()).to(torch.bfloat16).to(x.dtype)
            return normed * (1.0 + self.weight.to(x.dtype))

    become(norm, Early)


@fault("numerics", "an approximate activation", "trace", r"layers\.6\.mlp", Cause.KERNEL_CHOICE, Cause.MODULE_CLASS)
def exact_gelu(model: Any) -> None:
    activation = text_model(model).layers[6].mlp.act_fn
    original = type(activation)

    class Exact(original):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.gelu(x)

    become(activation, Exact)


@fault("numerics", "torch.compile", "modules", r"layers\.1\.mlp", Cause.MODULE_CLASS, Cause.METHOD_OVERRIDE)
def compiled_module(model: Any) -> None:
    layer = text_model(model).layers[1]
    layer.mlp = torch.compile(layer.mlp, backend="eager")


@fault("numerics", "transformers #26869", "trace", r"vision_tower", Cause.KERNEL_CHOICE)
def run_in_a_larger_batch(model: Any) -> None:
    tower = model.model.vision_tower
    original = type(tower)

    class Doubled(original):
        def forward(self, pixel_values: torch.Tensor, **kwargs: Any) -> Any:
            output = super().forward(torch.cat([pixel_values, pixel_values]), **kwargs)
            output.last_hidden_state = output.last_hidden_state[: pixel_values.shape[0]]
            return output

    become(tower, Doubled)


@fault("numerics", "non-deterministic kernel", "trace", r"language_model\.norm", Cause.NON_DETERMINISM)
def unrepeatable_kernel(model: Any) -> None:
    norm = text_model(model).norm
    original = type(norm)

    class Unrepeatable(original):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            noise = int.from_bytes(os.urandom(2), "little") / 65536
            return super().forward(x) * (1 + noise)

    become(norm, Unrepeatable)


@fault("numerics", "transformers #39972", "outputs", r"layers\.5\.mlp|layers\.5$", Cause.NON_FINITE)
def overflowing_layer(model: Any) -> None:
    rewrite_output(text_model(model).layers[5].mlp, lambda output: output * float("inf"))


@contextmanager
def _matmul_precision(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@fault(
    "numerics",
    "float32_matmul_precision",
    "globals",
    r"float32_matmul_precision",
    Cause.GLOBAL_FLAG,
    how="around",
    needs=(),
)
def matmul_precision_lowered() -> Any:
    return _matmul_precision("medium")


@fault("numerics", "transformers #20680", "globals", r"tf32|precision", Cause.GLOBAL_FLAG, how="around", needs=())
def tf32_switched_on() -> Any:
    return set_while(torch.backends.cudnn, "allow_tf32", not torch.backends.cudnn.allow_tf32)


@fault(
    "numerics", "reduced-precision reductions", "globals", r"bf16_reduced", Cause.GLOBAL_FLAG, how="around", needs=()
)
def reductions_switched() -> Any:
    matmul = torch.backends.cuda.matmul
    return set_while(matmul, "allow_bf16_reduced_precision_reduction", False)


@fault("numerics", "cuDNN autotuning", "globals", r"cudnn_benchmark", Cause.GLOBAL_FLAG, how="around", needs=())
def cudnn_benchmark_on() -> Any:
    return set_while(torch.backends.cudnn, "benchmark", True)


@fault("numerics", "kernel order changed", "globals", r"num_threads", Cause.GLOBAL_FLAG, how="around", needs=())
@contextmanager
def fewer_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
