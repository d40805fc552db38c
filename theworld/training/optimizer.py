"""Learning rates by component: groups for an optimizer, and the check that each rate arrived.

In: a model whose freeze is set, and a stage. Out: the groups that torch's optimizers take. `prepare` may rebuild or
drop groups, so what the optimizer and its schedule really hold is compared afterwards with what was asked.
"""

import importlib.util
from typing import Any

from theworld.components import component_of
from theworld.training.config import ConfigError, FailedError, StageConfig

OPTIMIZERS = {  # the config's names: Trainer's name, and the package that has to be there
    "adamw": ("adamw_torch", None),
    "adamw_8bit": ("adamw_bnb_8bit", "bitsandbytes"),
}


class RateError(FailedError):
    """The optimizer does not do what the config asked."""


def trainer_name(optimizer: str) -> str:
    """Trainer's name of an optimizer.

    Raises:
        ConfigError: if the package that has it is not installed, or its state cannot be saved.
    """
    if optimizer not in OPTIMIZERS:
        raise ConfigError(
            f"optimizer {optimizer}: torchao keeps its state in a kind of tensor that only a pickle holds, so no run "
            "could go on from it; write adamw_8bit or adamw"
        )
    name, package = OPTIMIZERS[optimizer]
    if package is not None and importlib.util.find_spec(package) is None:
        raise ConfigError(f"optimizer {optimizer} needs the package {package}; install it, or write adamw")
    return name


def parameter_groups(model: Any, stage: StageConfig, decayed: set[str]) -> list[dict[str, Any]]:
    """Two groups a component that trains, with weight decay and without.

    Args:
        decayed: names of the parameters that weight decay is meant for.
    """
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        component, decays = component_of(name), name in decayed
        group = groups.setdefault(
            (component, decays),
            {
                "params": [],
                "lr": stage.rate_of(component),
                "weight_decay": stage.weight_decay if decays else 0.0,
                "component": component,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def check_rates(model: Any, optimizer: Any, scheduler: Any, stage: StageConfig) -> None:
    """Compare what optimizer and schedule hold with what the stage asked.

    Raises:
        RateError: if a parameter that trains is in no group or in two, a frozen one is in a group, or a group's
            rate is another.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    trains = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    seen: set[int] = set()
    factors = [make(scheduler.last_epoch) for make in scheduler.lr_lambdas]
    for group, base, factor in zip(optimizer.param_groups, scheduler.base_lrs, factors, strict=True):
        for parameter in group["params"]:
            name = names.get(id(parameter), "a parameter that is not the model's")
            if id(parameter) not in trains:
                raise RateError(f"the optimizer holds {name}, which does not train")
            if id(parameter) in seen:
                raise RateError(f"the optimizer holds {name} twice")
            seen.add(id(parameter))
            asked = stage.rate_of(component_of(name))
            if base != asked or group["lr"] != asked * factor:
                raise RateError(
                    f"the learning rate of {name} is {group['lr']:g} (schedule from {base:g}), and {asked:g} was asked "
                    f"for {component_of(name)}"
                )
    if missing := [name for key, name in trains.items() if key not in seen]:
        raise RateError(f"{missing[0]} trains, and the optimizer does not hold it")
