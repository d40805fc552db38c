"""Differences that only say how something is computed: another attention, a compiled or replaced module, kernel flags.

In: findings of two models' state, and all places that each stands for. Out: which of them are such. These are not
what a model is: where numbers may differ by rounding, they are judged by their numbers. Weights, buffers, files and
configuration never are.
"""

from collections.abc import Collection, Sequence

from theworld_validate.compare.causes import Cause, classify, field_of, is_adapter, section_of
from theworld_validate.compare.places import is_above, place_of
from theworld_validate.documents.observations import Section
from theworld_validate.results import Finding

_CAUSES = {
    Cause.ATTENTION_IMPLEMENTATION,
    Cause.COMPILED,
    Cause.METHOD_OVERRIDE,
    Cause.MODULE_CLASS,
    Cause.PATCHED_CODE,
}
# How kernels are chosen. The random state, modes and the default dtype decide what is computed, autocast in what.
_KERNEL_FLAGS = {
    "float32_matmul_precision",
    "deterministic_algorithms",
    "cudnn_deterministic",
    "cudnn_benchmark",
    "cudnn_allow_tf32",
    "cuda_matmul_allow_tf32",
    "fp32_precision",
    "fp32_precision_cuda_matmul",
    "fp32_precision_cudnn",
    "fp32_precision_cudnn_conv",
    "fp32_precision_cudnn_rnn",
    "fp32_precision_mkldnn_matmul",
    "fp32_precision_mkldnn_conv",
    "fp32_precision_mkldnn_rnn",
    "cuda_bf16_reduced_precision",
    "cuda_fp16_reduced_precision",
    "cudnn_enabled",
    "flash_sdp",
    "mem_efficient_sdp",
    "math_sdp",
    "cudnn_sdp",
    "num_threads",
    "cublas_workspace_config",
}
_OF_A_REPLACEMENT = ("class", "overrides", "compiled", "attn_implementation")


def is_of_computing(finding: Finding, places: Sequence[str], reference: Section, candidate: Section) -> bool:
    """Whether a finding of a section of state is a difference of computing.

    Args:
        places: all that it stands for.
        reference, candidate: the sections "modules".
    """
    section, field = section_of(finding), field_of(finding)
    if section == "globals":
        return field == "value" and finding.location in _KERNEL_FLAGS
    if section == "parameters":
        return field == "stride"
    if section != "modules" or field == "transformers_class":
        return False
    if field.startswith("attribute."):  # another class has attributes of its own
        return all(_class_of(reference, place) != _class_of(candidate, place) for place in places)
    if field in ("missing", "extra") and not place_of(section, finding.location).kind:
        return not is_adapter(finding, place_of(section, finding.location))  # what it holds is compared as weights are
    return classify(finding) in _CAUSES


def _class_of(modules: Section, place: str) -> object:
    return modules.get(place, {}).get("class")


def replaced_modules(reference: Section, candidate: Section) -> frozenset[str]:
    """The modules, by their path, that one side computes with other code than the other, or has alone.

    Args:
        reference, candidate: the sections "modules".
    """
    found: set[str] = set()
    for name in {**reference, **candidate}:
        place = place_of("modules", name)
        ours, theirs = reference.get(name), candidate.get(name)
        if place.kind == "code":
            continue
        if ours is None or theirs is None:  # what is inside of a module is part of its code
            found |= {""} if place.kind == "wrapper" else {place.module, place.module.rpartition(".")[0]}
        elif any(ours.get(field) != theirs.get(field) for field in _OF_A_REPLACEMENT):
            found.add(place.module)
    return frozenset(found)


def is_replaced(module: str, replaced: Collection[str]) -> bool:
    """Whether a module is one of those, lies in one, or holds one."""
    return any(is_above(other, module) or is_above(module, other) for other in replaced)
