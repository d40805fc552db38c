"""One training step of a model of any family: which parameters receive a gradient, and which wrongly do or do not.

In: a subject. Out: one check, on the probe that its family takes gradients on, with everything trainable as loaded.
"""

from typing import Any

from theworld_validate.audits.gradients import audit_gradients
from theworld_validate.audits.module_components import components_of
from theworld_validate.fingerprint.forward import cache_argument, labels_of, to_tensors
from theworld_validate.fingerprint.gradients import loss_of
from theworld_validate.probes.probe import Probe, gradient_probe
from theworld_validate.results import CheckResult, InputError
from theworld_validate.subjects.subject import Subject
from theworld_validate.subjects.wrappers import unwrap


def check_family_gradients(subject: Subject, probes: tuple[Probe, ...]) -> CheckResult:
    """Run one step, and look at every parameter's gradient.

    Raises:
        InputError: if no probe has gradients, nothing at all is trainable, or the forward gives no loss.
    """
    probe = gradient_probe(probes)
    if probe is None:
        raise InputError(f"{subject.checkpoint}: no probe that gradients can be taken on; give one with --probes")
    model = unwrap(subject.load()).model
    inputs = {**to_tensors(probe, model), **labels_of(probe, model), **cache_argument(probe, wanted=False)}

    def run(asked: Any) -> Any:
        loss = loss_of(asked(**inputs), has_labels=probe.labels is not None)
        if loss is None:
            raise InputError(f"{subject.checkpoint}: the forward gives no loss to go back from; return it as `loss`")
        return loss

    return audit_gradients(model, run, check_id="gradients.step", seed=subject.seed, components=components_of(model))
