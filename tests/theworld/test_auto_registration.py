"""The Auto classes know TheWorld in whichever order the packages are imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from theworld import TheWorld

REGISTERED = """
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers import AutoModelForMultimodalLM, AutoModelForPreTraining, AutoProcessor
import theworld
from theworld.world_model import TheWorldModel
assert type(AutoConfig.for_model("theworld")) is theworld.TheWorldConfig
for auto, model in (
    (AutoModelForImageTextToText, theworld.TheWorld), (AutoModelForMultimodalLM, theworld.TheWorld),
    (AutoModelForCausalLM, theworld.TheWorld), (AutoModelForPreTraining, theworld.TheWorld), (AutoModel, TheWorldModel),
):
    assert auto._model_mapping[theworld.TheWorldConfig] is model
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
assert PROCESSOR_MAPPING[theworld.TheWorldConfig] is theworld.TheWorldProcessor
import sys
assert not any("Registrar" in type(finder).__name__ for finder in sys.meta_path), sys.meta_path
"""
ORDERS: tuple[str, ...] = (
    "import theworld",
    "from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor; import theworld",
    "import theworld; from transformers import Trainer",
    "import theworld; from transformers import pipeline",
    "import theworld; from transformers import PreTrainedModel",
    "from transformers import Gemma3Processor; import theworld",
    "import theworld; from diffusers import AutoencoderKLWan",
    "from diffusers import Cosmos2VideoToWorldPipeline; import theworld.world_encoder",
    "import theworld.world_encoder",
    "import theworld.modeling_theworld",
    "import theworld.configuration_theworld; from transformers import Trainer",
    "import torch, theworld, peft, accelerate",
)


def test_every_auto_class_that_has_gemma_3_has_the_world() -> None:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Model
    from transformers.models.auto import modeling_auto

    from theworld import TheWorldConfig
    from theworld.world_model import TheWorldModel

    ours: dict[object, type] = {Gemma3ForConditionalGeneration: TheWorld, Gemma3Model: TheWorldModel}
    found = {
        name: (mapping[Gemma3Config], TheWorldConfig in mapping and mapping[TheWorldConfig])
        for name, auto in vars(modeling_auto).items()
        if isinstance(auto, type) and (mapping := getattr(auto, "_model_mapping", None)) and Gemma3Config in mapping
    }
    assert {"AutoModel", "AutoModelForCausalLM", "AutoModelForPreTraining", "AutoModelForMultimodalLM"} < set(found)
    for name, (theirs, given) in found.items():
        assert given == ours.get(theirs, False), name


def run(code: str) -> None:
    """Run code in a fresh process, which must end well."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("imports", ORDERS)
def test_registered_in_any_order(imports: str) -> None:
    run(f"{imports}\n{REGISTERED}")


def test_a_saved_model_loads_where_nobody_imports_the_package(tmp_path: Path, shared_world: TheWorld) -> None:
    """By the file that is installed beside the packages; and the package is not imported before it is needed."""
    shared_world.save_pretrained(tmp_path)
    run(
        "import sys\n"
        "from transformers import AutoConfig, AutoModelForImageTextToText\n"
        "assert not any(name.partition('.')[0] == 'theworld' for name in sys.modules)\n"
        f"model = AutoModelForImageTextToText.from_pretrained({str(tmp_path)!r})\n"
        "assert type(model).__name__ == 'TheWorld' and model.enable_world\n"
    )


def test_other_model_types_are_looked_up_as_before() -> None:
    run(
        "from transformers import AutoConfig\n"
        "from transformers.models.auto.configuration_auto import CONFIG_MAPPING as mapping\n"
        "import sys\n"
        "assert type(AutoConfig.for_model('gemma3')).__name__ == 'Gemma3Config'\n"
        "assert 'theworlds' not in mapping and 'theworld' in mapping and 'theworld' not in sys.modules\n"
        "try:\n    AutoConfig.for_model('theworlds')\nexcept ValueError:\n    pass\n"
    )


def test_import_is_light() -> None:
    run(
        "import sys, theworld\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )


def test_import_changes_no_global_state() -> None:
    run(
        "import torch, transformers\n"
        "from theworld_validate.fingerprint.state import observe_globals\n"
        "before = observe_globals()\n"
        "import theworld; theworld.TheWorld; theworld.TheWorldProcessor\n"
        "assert observe_globals() == before, (before, observe_globals())"
    )


def test_unknown_name_is_an_attribute_error() -> None:
    import theworld

    with pytest.raises(AttributeError, match="no attribute 'TheWorlds'"):
        theworld.TheWorlds  # noqa: B018
    assert set(theworld.__all__) <= set(dir(theworld))
