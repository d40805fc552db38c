"""The tiny checkpoints that released bugs are shown on, some of them changed so that the bug is reached.

In: a name, such as "gemma3" or "LlamaForCausalLM+own_head". Out: a folder with the checkpoint, its probes, and the
config that a fresh model is built from.
"""

import json
from pathlib import Path

from theworld_validate.releases.questions import QUESTIONS
from theworld_validate.results import InputError
from theworld_validate.scan.classes import WRITE
from theworld_validate.subjects.subject import Subject
from theworld_validate.workers.child import Job
from theworld_validate.workers.run import Run, ask

GEMMA = "gemma3"
# Changes of a class's tiny checkpoint, by the words that follow its name, such as "LlamaForCausalLM+own_head".
# Of its config: it ties a head which the files hold by itself; or all of its layers have a short window.
CONFIG_CHANGES: dict[str, dict[str, object]] = {
    "own_head": {"tie_word_embeddings": True},
    "sliding": {
        "use_sliding_window": True,
        "sliding_window": 4,
        "max_window_layers": 0,
        "layer_types": ["sliding_attention"] * 2,
    },
}
NO_SHARED = "no_shared"  # T5's embedding under its other name, beside a head of its own
EAGER = "eager"  # attention written out, in place of sdpa


def make_model(name: str, folder: Path, run: Run) -> None:
    """Write a tiny checkpoint and what it is asked.

    Raises:
        InputError: if there is no such class, or no tiny model of it.
    """
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    checkpoint = folder / "checkpoint"
    if name == GEMMA:
        from theworld.synthetic import cached_checkpoint

        shutil.copytree(cached_checkpoint("tiny").gemma, checkpoint)
    else:
        plain = name.partition("+")[0]
        arguments = {"name": plain, "folder": str(checkpoint), "seed": 0}
        values = ask(run, Job(name=plain, function=WRITE, arguments=arguments))
        if values["why_not"] is not None:
            raise InputError(str(values["why_not"]))
        for word in name.split("+")[1:]:
            if word == NO_SHARED:
                _without_shared(checkpoint / "model.safetensors")
            elif word != EAGER:
                config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
                (checkpoint / "config.json").write_text(json.dumps(config | CONFIG_CHANGES[word]), encoding="utf-8")
    subject = Subject(target="", checkpoint=str(checkpoint), dtype="float32")
    arguments = {"subject": subject, "folder": str(folder)}
    values = ask(run, Job(name="probes", function=QUESTIONS, arguments=arguments))
    kept = {"target": values["target"], "probes": values["probes"]}
    (folder / "questions.json").write_text(json.dumps(kept), encoding="utf-8")


def _without_shared(path: Path) -> None:
    """Name a T5 checkpoint's embedding as its decoder does, and give it a head of its own."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    embedding = tensors.pop("shared.weight")
    generator = torch.Generator().manual_seed(0)
    tensors["decoder.embed_tokens.weight"] = embedding
    tensors["lm_head.weight"] = torch.randn(embedding.shape, generator=generator).to(embedding.dtype)
    save_file(tensors, path, metadata={"format": "pt"})
