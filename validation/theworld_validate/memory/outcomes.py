"""What is known of a cell: predicted, measured, or why it is not.

In: nothing. Out: plain, frozen values without torch objects, which a worker sends to the judge as JSON.
"""

from dataclasses import dataclass, field

from theworld_validate.memory.cells import Cell

Owner = tuple[str, int, str]  # kind, bytes, and what asked for them

_STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What one cell will take.

    Args:
        least_bytes: of parameters and inputs, which are there before the first step.
        peak_allocated_bytes, peak_reserved_bytes: of three steps or two calls, without a limit; None where the
            least is more than the capacity already, and no step was traced.
        phase_peaks_bytes: peak allocated of each phase of the last step or call.
        split_bytes: who owns the bytes at the peak: kind -> bytes; they sum to the peak.
        owners: the ten largest storages at the peak.
        timeline_bytes: allocated bytes over the last step or call, thinned.
        fits: whether it runs in the capacity; None if no capacity was given.
        host_bytes: the most that a step keeps in the host's memory, as asked for; None where nothing is offloaded.
        seconds: what the prediction took.
    """

    __pydantic_config__ = _STRICT

    cell: Cell
    least_bytes: int
    peak_allocated_bytes: int | None = None
    peak_reserved_bytes: int | None = None
    phase_peaks_bytes: dict[str, int] = field(default_factory=dict)
    split_bytes: dict[str, int] = field(default_factory=dict)
    owners: tuple[Owner, ...] = ()
    timeline_bytes: tuple[int, ...] = ()
    fits: bool | None = None
    host_bytes: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one cell took. Bytes are None where the step ended before they were known.

    Args:
        floor_bytes: allocated before the cell: the model alone.
        peak_allocated_bytes, peak_reserved_bytes: of all steps.
        driver_bytes: what the driver says that the device has in use, at the end.
        phase_peaks_bytes: peak allocated of each phase, of the last step, as far as it came.
        split_bytes: who owns the bytes at the peak of the second step: kind -> bytes; they sum to that peak.
        owners: the ten largest blocks at that peak.
        activation_bytes: what the second step's forward pass kept for its backward pass; None of a call.
        step_seconds: of the third step.
        out_of_memory: the phase that ran out; None if none did.
        error: what else the cell raised; None if nothing.
    """

    __pydantic_config__ = _STRICT

    cell: Cell
    floor_bytes: int | None = None
    peak_allocated_bytes: int | None = None
    peak_reserved_bytes: int | None = None
    driver_bytes: int | None = None
    phase_peaks_bytes: dict[str, int] = field(default_factory=dict)
    split_bytes: dict[str, int] = field(default_factory=dict)
    owners: tuple[Owner, ...] = ()
    activation_bytes: int | None = None
    step_seconds: float | None = None
    out_of_memory: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to make a cell fit.

    Args:
        title: its levers, for people.
        step_time: the step's time over the plain step's; None where it was not measured.
        predicted: the cell with them.
    """

    __pydantic_config__ = _STRICT

    title: str
    step_time: float | None
    predicted: Predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What is said of one cell of a matrix.

    Args:
        cell: that was asked about.
        results: one prediction, or a sweep's in order of size; empty after an error.
        ways: what would make it fit; empty where it fits, and where nothing does.
        error: what the prediction raised; None if nothing.
    """

    __pydantic_config__ = _STRICT

    cell: Cell
    results: tuple[Predicted, ...] = ()
    ways: tuple[Way, ...] = ()
    error: str | None = None
