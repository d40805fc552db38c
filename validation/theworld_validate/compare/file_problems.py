"""The section "files" to findings: what is wrong with a checkpoint before any model is made of it."""

from theworld_validate.documents.observations import Section
from theworld_validate.results import Finding

# Problems that leave every weight of the model what the files say: shown, and no failure.
_HARMLESS = {"cast", "tied_twice", "duplicated_equal", "unread"}
_ADVICE = {
    "missing": (
        "no file holds it: loading would leave it random, and silently",
        "save the checkpoint again from the model that was trained, or download the missing file",
    ),
    "unexpected": (
        "no parameter has this name: what it holds is not loaded",
        "save the model itself, not its wrapper (module., _orig_mod.), or rename the keys",
    ),
    "mismatched": ("its shape is not the parameter's", "use the config.json that belongs to these files"),
    "mistyped": ("its dtype is not one of weights", "save the weights in a floating-point dtype"),
    "empty": ("it holds no element: a sharded trainer saved its part alone", "gather the weights before saving"),
    "shadowed": ("another file beside it is the one that is loaded", "remove the file that is not meant"),
    "non_finite": ("it holds NaN or infinity", "find the step of training or conversion that made it"),
    "all_zero": ("every element is zero", "check that it was trained and saved"),
    "damaged": (
        "its bytes are not those that were downloaded: the download was cut short, or the disk changed them",
        "delete it from the hub's cache, and download it again",
    ),
    "tied_different": (
        "the tied table is stored twice, and the copies differ",
        "keep the one that was trained, and save with save_pretrained",
    ),
}
_UNKNOWN = ("the file and the model do not fit", "save the checkpoint again")


def file_findings(observed: Section) -> list[Finding]:
    """One finding for each problem of a checkpoint's files."""
    findings = []
    for location, seen in observed.items():
        problem = seen.get("problem")
        if not isinstance(problem, str):
            continue
        cause, remedy = _ADVICE.get(problem, _UNKNOWN)
        detail = f" ({seen['detail']})" if seen.get("detail") else ""
        findings.append(
            Finding(
                code=f"files.{problem}",
                severity="warning" if problem in _HARMLESS else "error",
                location=location,
                message=f"{location}: {problem.replace('_', ' ')} in the checkpoint's files{detail}",
                cause=cause,
                remedy=remedy,
                section="files",
                field=problem,
            )
        )
    return findings
