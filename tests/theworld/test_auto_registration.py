"""The Auto classes know TheWorld in whichever order the packages are imported."""

import subprocess
import sys

import pytest

USE = "AutoConfig.for_model('theworld'); AutoModelForImageTextToText, AutoProcessor"
FROM_TRANSFORMERS = "from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor"
REGISTERED = """
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING as models
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING as processors
import theworld
assert models[theworld.TheWorldConfig] is theworld.TheWorld
assert processors[theworld.TheWorldConfig] is theworld.TheWorldProcessor
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "imports",
    [
        f"import theworld\n{FROM_TRANSFORMERS}",
        f"{FROM_TRANSFORMERS}\nimport theworld",
        f"import theworld\nfrom transformers import Gemma3Config\n{FROM_TRANSFORMERS}",
        f"from theworld import TheWorld\n{FROM_TRANSFORMERS}",
    ],
    ids=["theworld-first", "transformers-first", "gemma-config-first", "model-first"],
)
def test_registered_in_any_order(imports: str) -> None:
    done = run(f"{imports}\n{USE}\n{REGISTERED}")
    assert done.returncode == 0, done.stderr


def test_import_is_light() -> None:
    done = run(
        "import sys, theworld\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert done.returncode == 0, done.stderr


def test_import_changes_no_global_state() -> None:
    done = run(
        "import torch, transformers\n"
        "from theworld_validate.fingerprint.state import observe_globals\n"
        "before = observe_globals()\n"
        "import theworld; theworld.TheWorld; theworld.TheWorldProcessor\n"
        "assert observe_globals() == before, (before, observe_globals())"
    )
    assert done.returncode == 0, done.stderr


def test_unknown_name_is_an_attribute_error() -> None:
    import theworld

    with pytest.raises(AttributeError, match="no attribute 'TheWorlds'"):
        theworld.TheWorlds  # noqa: B018
    assert set(theworld.__all__) <= set(dir(theworld))
