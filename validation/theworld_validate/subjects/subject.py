"""Subjects: how one model is loaded. Nothing else in the harness knows how to load.

In: a class (or function) by name, a checkpoint, dtype, device and attention. Out: what it returned, in the state that
it left it in; an `InputError` with the file and the fix; or a `SubjectError` with what the loader's own code raised.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theworld.checkpoints.error_text import one_line, summary
from theworld_validate.results import InputError, SubjectRecord
from theworld_validate.subjects.checkpoints import check_checkpoint, not_on_the_hub
from theworld_validate.subjects.targets import check_loader, resolve_target
from theworld_validate.subjects.wrappers import unwrap
from theworld_validate.target import Target
from theworld_validate.workers.whose_code import frames_of, is_judged

_DEVICE = re.compile(r"auto|cuda(:(?P<number>[0-9]{1,4}))?")
_PACKAGE = str(Path(__file__).parent.parent)


class SubjectError(Exception):
    """A subject's own code raised where it was to load a model.

    Attributes:
        place: the file and line that raised; None where it is not known.
        code: that line's source.
        told: the three, as `workers.child` sends them.
    """

    def __init__(self, line: str, place: str | None = None, code: str | None = None) -> None:
        super().__init__(line)
        self.place, self.code = place, code

    @property
    def told(self) -> tuple[str, str | None, str | None]:
        """What to say of it."""
        return str(self), self.place, self.code


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject(Target):
    """One model to be loaded: a `Target`, and what loads it. A `TheWorld` without `cosmos` has its branch off.

    Args:
        target: "module:name" of a `PreTrainedModel` class, or of a function called as its `from_pretrained`.
        freeze: the name of a freeze preset, for a `TheWorld` with its branch on.
        prefix: where the model lies in what is returned, such as "lm."; None where it is that, or is found.
        quantization: "nf4" for linear layers in 4 bit, with double quantisation, by bitsandbytes; None for none.
    """

    target: str
    freeze: str | None = None
    prefix: str | None = None
    quantization: str | None = None

    @classmethod
    def of(cls, target: Target, name: str, *, cosmos: str | None = None, freeze: str | None = None) -> "Subject":
        """What is loaded by `name`, with its branch on if a Cosmos repository is named."""
        return cls(
            target=name,
            checkpoint=target.checkpoint,
            dtype=target.dtype,
            device=target.device,
            attn=target.attn,
            cosmos=cosmos,
            freeze=freeze,
            seed=target.seed,
            probes=target.probes,
        )

    def load(self) -> Any:
        """Load the model: what the target returned, which `wrappers.unwrap` takes apart.

        Raises:
            InputError: if the target or the checkpoint cannot be used.
            SubjectError: if the target's own code raises.
        """
        import torch

        is_judged(self.target)
        target = resolve_target(self.target)
        arguments = self._arguments(target)
        loader = check_loader(self.target, target, arguments)
        check_checkpoint(self.checkpoint)
        torch.manual_seed(self.seed)
        try:
            loaded = loader(self.checkpoint, **arguments)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a subject may raise anything, StopIteration and GeneratorExit too
            raise self._as_said(error) from error
        wrapped = unwrap(loaded, target=self.target, prefix=self.prefix)
        return loaded if self.prefix is None else wrapped

    def record(self, role: str) -> SubjectRecord:
        """What a report says of it."""
        return SubjectRecord(
            role=role,
            target=self.target,
            checkpoint=self.checkpoint,
            cosmos=self.cosmos,
            dtype=self.dtype,
            device=self.device,
            attn=self.attn,
            seed=self.seed,
        )

    def _arguments(self, target: Any) -> dict[str, Any]:
        import torch

        arguments: dict[str, Any] = {"dtype": getattr(torch, self.dtype)}
        if self.attn is not None:
            arguments["attn_implementation"] = self.attn
        arguments |= device_map_of(self.device)
        if self.quantization is not None:
            arguments["quantization_config"] = _nf4_config()
        if isinstance(target, type):
            from theworld.modeling_theworld import TheWorld

            if issubclass(target, TheWorld):
                arguments["enable_world"] = self.cosmos is not None
                if self.cosmos is not None:
                    arguments |= {"cosmos_model_name_or_path": self.cosmos, "freeze": self.freeze}
        return arguments

    def _as_said(self, error: BaseException) -> InputError | SubjectError:
        """What is wrong with the checkpoint or the machine is the user's to mend; other errors are the subject's."""
        if isinstance(error, OSError):
            for name in (self.checkpoint, self.cosmos):
                if name is not None and not Path(name).is_dir():
                    return not_on_the_hub(name)
        what = _text_of(error)
        if isinstance(error, (OSError, ValueError, ImportError)):
            return self._cannot_load(what)
        if self.target.startswith("transformers:") and isinstance(
            error, Exception
        ):  # its code is right: the checkpoint is not
            return InputError(f"{self.target} cannot load {one_line(self.checkpoint)}: {type(error).__name__}: {what}")
        foreign = [frame for frame in frames_of(error) if not frame.filename.startswith(_PACKAGE)]
        frame = foreign[-1] if foreign else None
        return SubjectError(
            f"{self.target} raises {type(error).__name__} while loading: {what}",
            one_line(f"{frame.filename}:{frame.lineno}") if frame else None,
            one_line(frame.line) if frame and frame.line else None,
        )

    def _cannot_load(self, what: str) -> InputError:
        """The error for a checkpoint that the target refuses; theworld's own errors begin with the folder."""
        folder = one_line(self.checkpoint)
        return InputError(f"{self.target} cannot load {folder}: {what.removeprefix(f'{folder}: ')}")


def _nf4_config() -> Any:
    """QLoRA's own (Dettmers et al. 2023), computing in bfloat16."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _text_of(error: BaseException) -> str:
    try:
        return summary(error)
    except Exception:  # the text is made by whoever wrote the exception's class
        return type(error).__name__


def check_device(device: str) -> None:
    """Refuse a device that nothing can be loaded on.

    Raises:
        InputError: if there is no such kind of device, or this machine does not have it.
    """
    if device == "cpu":
        return
    if not (found := _DEVICE.fullmatch(device)):
        raise InputError(f"--device {one_line(device)}: no such device; give cpu, auto, cuda or cuda:N")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(found["number"] or 0) >= count:
        raise InputError(f"--device {device}: this machine has {count} CUDA devices; use --device cpu")


def device_map_of(device: str) -> dict[str, Any]:
    """What `from_pretrained` is told of a device; nothing for the CPU.

    Raises:
        InputError: as `check_device`.
    """
    check_device(device)
    if device == "cpu":
        return {}
    return {"device_map": device if device == "auto" else {"": device}}
