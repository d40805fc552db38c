"""Global state: whatever is left on shows under its own name, and is told as what it is."""

import operator
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules import module
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from theworld_validate.compare.causes import Cause, classify
from theworld_validate.compare.computing import is_of_computing
from theworld_validate.compare.differences import diff_section
from theworld_validate.fingerprint.global_state import observe_globals


class Functions(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


class Kernels(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


@contextmanager
def setting(set_it: Callable[[Any], object], value: Any, before: Any) -> Iterator[None]:
    set_it(value)
    try:
        yield
    finally:
        set_it(before)


@contextmanager
def hook(register: Callable[[Any], Any]) -> Iterator[None]:
    handle = register(lambda *_: None)
    try:
        yield
    finally:
        handle.remove()


def autocast_dtype(dtype: torch.dtype) -> None:
    torch.set_autocast_dtype("cpu", dtype)


cuda = torch.backends.cuda
LEFT_ON: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "function_modes": Functions,
    "dispatch_modes": Kernels,
    "anomaly_mode": lambda: torch.autograd.set_detect_anomaly(True),
    "flush_denormal": lambda: setting(torch.set_flush_denormal, True, False),
    "saved_tensors_hooks": lambda: saved_tensors_hooks(lambda t: t, lambda t: t),
    "autocast_cpu_dtype": lambda: setting(autocast_dtype, torch.float16, torch.bfloat16),
    "autocast_cache": lambda: setting(torch.set_autocast_cache_enabled, False, True),
    "flash_sdp": lambda: setting(cuda.enable_flash_sdp, False, True),
    "mem_efficient_sdp": lambda: setting(cuda.enable_mem_efficient_sdp, False, True),
    "math_sdp": lambda: setting(cuda.enable_math_sdp, False, True),
    "cudnn_sdp": lambda: setting(cuda.enable_cudnn_sdp, False, True),
    "global_forward_hooks": lambda: hook(module.register_module_forward_hook),
    "global_forward_pre_hooks": lambda: hook(module.register_module_forward_pre_hook),
    "global_backward_hooks": lambda: hook(module.register_module_full_backward_hook),
    "global_backward_pre_hooks": lambda: hook(module.register_module_full_backward_pre_hook),
    "global_module_registration_hooks": lambda: hook(module.register_module_module_registration_hook),
    "global_parameter_registration_hooks": lambda: hook(module.register_module_parameter_registration_hook),
    "global_buffer_registration_hooks": lambda: hook(module.register_module_buffer_registration_hook),
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", LEFT_ON)
def test_what_is_left_on_shows(name: str) -> None:
    before = observe_globals()
    with LEFT_ON[name]():
        found = diff_section("globals", before, observe_globals())
    assert [finding.location for finding in found] == [name]
    assert classify(found[0]) is (Cause.GLOBAL_HOOK if name.endswith("_hooks") else Cause.GLOBAL_FLAG)
    assert observe_globals() == before


@pytest.mark.parametrize(
    ("device", "names"), [("cpu", {"function_modes"}), ("meta", {"function_modes", "default_device"})]
)
def test_a_default_device_shows(device: str, names: set[str]) -> None:
    before = observe_globals()
    try:
        torch.set_default_device(device)
        found = diff_section("globals", before, observe_globals())
    finally:
        torch.set_default_device(None)
    assert {finding.location for finding in found} == names
    assert observe_globals() == before


@pytest.mark.parametrize(
    ("name", "value", "before", "unread"),
    [
        ("cuda.matmul", "tf32", "none", {"cuda_matmul_allow_tf32", "float32_matmul_precision"}),
        ("cudnn.conv", "ieee", "tf32", {"cudnn_allow_tf32"}),
        ("mkldnn.matmul", "bf16", "none", {"float32_matmul_precision"}),
    ],
)
def test_a_precision_of_float32_shows_though_the_older_flags_cannot_be_read(
    name: str, value: str, before: str, unread: set[str]
) -> None:
    """Torch raises where the older flags are read after the newer ones were set otherwise."""
    seen = observe_globals()
    owner, place = operator.attrgetter(name)(torch.backends), f"fp32_precision_{name.replace('.', '_')}"
    with setting(lambda precision: setattr(owner, "fp32_precision", precision), value, before):
        values = observe_globals()
        found = diff_section("globals", seen, values)
    assert values[place] == {"value": value}
    assert {finding.location for finding in found} == {place, *unread}
    assert {values[flag]["value"] for flag in unread} == {"cannot be read: RuntimeError"}
    assert {classify(finding) for finding in found} == {Cause.GLOBAL_FLAG}
    assert all(is_of_computing(finding, [], {}, {}) for finding in found)
    assert observe_globals() == seen
