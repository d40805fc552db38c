"""Parameters of a model of any family, component by component; no weight is read.

In: a checkpoint or a bare config, and a user's list of components where there is one. Out: one check.
"""

import time
from typing import Any

from theworld_validate.audits.module_components import components_of
from theworld_validate.audits.params import tied_rows
from theworld_validate.results import CheckResult, InputError, Status


def check_family_params(
    config: Any, model_class: Any, *, chosen: dict[str, tuple[str, ...]] | None = None, dtype: str = "bfloat16"
) -> CheckResult:
    """Count the parameters of the model that a config describes, on the meta device.

    Raises:
        InputError: if it describes none, or the list does not cover it.
    """
    import torch

    from theworld.checkpoints.error_text import summary
    from theworld.checkpoints.key_renaming import build_on_meta

    started = time.perf_counter()
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(getattr(torch, dtype))
        model = build_on_meta(model_class, config)
    except Exception as error:  # whatever a class says of a config that describes none
        what = f"{type(error).__name__}: {summary(error)}"
        raise InputError(f"config.json describes no model that can be built: {what}") from error
    finally:
        torch.set_default_dtype(before)
    model.tie_weights()
    whole = sum(parameter.numel() for parameter in model.parameters())
    rows: list[dict[str, Any]] = []
    for name, parameters in components_of(model, chosen).items():
        total = sum(parameter.numel() for parameter in parameters.values())
        rows.append(
            {
                "component": name,
                "total": total,
                "share": total / max(whole, 1),
                "dtype": ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in parameters.values()})),
                "total_bytes": sum(p.numel() * p.element_size() for p in parameters.values()),
                "tied_to": None,
            }
        )
    counted = sum(row["total"] for row in rows)
    num_bytes = sum(row["total_bytes"] for row in rows)
    return CheckResult(
        id="params.components",
        status=Status.PASSED if counted == whole and whole else Status.FAILED,
        reason=None if counted == whole else f"components sum to {counted:,} parameters, the model has {whole:,}",
        seconds=time.perf_counter() - started,
        measurements={
            "parameters": counted,
            "parameters_bytes": num_bytes,
            "components": [*rows, *tied_rows(model, whole)],
        },
    )
