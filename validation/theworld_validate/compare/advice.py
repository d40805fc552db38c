"""The words of each kind of cause: why something differs, and how to mend it.

In: a kind of cause. Out: two sentences for a report.
"""

from theworld_validate.compare.causes import Cause

ADVICE: dict[Cause, tuple[str, str]] = {
    Cause.NON_DETERMINISM: (
        "the candidate gives other results when it is run again",
        "look for randomness that no seed reaches (a hook's); deterministic kernels are on already on CUDA",
    ),
    Cause.LOADS_DIFFER: (
        "the loader gives another model when it is called again: it draws what no seed reaches, or keeps something "
        "between calls",
        "build the model from the checkpoint and the arguments alone; look for files, caches and random numbers that "
        "the loader reads",
    ),
    Cause.LOST_KEY: (
        "no file of the checkpoint holds it, so loading leaves it as it was initialised",
        "save the checkpoint again from the trained model, or download the missing file",
    ),
    Cause.SHADOWED_FILE: (
        "another weight file in the folder is the one that is loaded",
        "remove the file that is not meant",
    ),
    Cause.CHECKPOINT_FILES: (
        "a tensor in the checkpoint's files is not what the model needs",
        "save the checkpoint again from the trained model",
    ),
    Cause.EXTRA_KEY: (
        "the model has no place for this key, so what it holds is not loaded",
        "save the model itself, not its wrapper, or rename the keys",
    ),
    Cause.PATCHED_CODE: (
        "code of torch's or transformers' own was replaced by other code, for every model in the process",
        "put behaviour into a subclass; undo the patch, or do not import what makes it",
    ),
    Cause.HOOK: (
        "a hook was left behind (gradient checkpointing, accelerate's offloading and PEFT leave some)",
        "remove the hook's handle, or load the model afresh and whole",
    ),
    Cause.METHOD_OVERRIDE: (
        "a method was put on the instance in place of its class's own",
        "delete the attribute from the instance; put behaviour into a subclass",
    ),
    Cause.ATTENTION_IMPLEMENTATION: (
        "another attention implementation was chosen for this part of the model",
        "pass attn_implementation to from_pretrained, for every sub-config",
    ),
    Cause.LOST_TIE: (
        "the embedding and the head are tied on one side alone: on the other each has a table of its own",
        "to keep both tables, set tie_word_embeddings=False in the config before saving; tie them again only if the "
        "head's own table may be dropped",
    ),
    Cause.CONFIG_VALUE: (
        "the two configurations are not the same",
        "load both from one checkpoint and change no field",
    ),
    Cause.ADAPTER: (
        "an adapter (PEFT) was added: it wraps modules, adds parameters and freezes the base",
        "compare the base model, or call merge_and_unload() first",
    ),
    Cause.WRAPPER: (
        "the loader returned a wrapper around the model",
        "compare the model inside; save and serve that one",
    ),
    Cause.COMPILED: (
        "torch.compile was applied: its code may round otherwise than the modules' own",
        "compare before compiling, and compile outside of what is saved",
    ),
    Cause.MODULE_CLASS: (
        "a module was replaced or wrapped by one of another class",
        "keep the base class's modules, and compile or wrap outside of the model",
    ),
    Cause.MODE_FLAG: (
        "the model, or a part of it, is in another mode than from_pretrained leaves it in",
        "call model.eval() before comparing or serving; switch checkpointing off",
    ),
    Cause.MODULE_ATTRIBUTE: (
        "a value that a module computes with was changed after it was built",
        "leave the attribute as the config makes it; one that only the candidate has, and that nothing computes with, "
        "is let through by --allow attribute:NAME",
    ),
    Cause.EXTRA_STATE: (
        "a module, parameter, buffer or other tensor was added that the reference has not",
        "build added modules only where they are switched on",
    ),
    Cause.MISSING_STATE: (
        "the module that holds it is gone or renamed",
        "keep the base class's module names",
    ),
    Cause.BUFFER_REGISTRATION: (
        "the buffer was registered in another way: persistent or not, or as a parameter",
        "register it as the base class does, or saved files will differ",
    ),
    Cause.BUFFER_DTYPE: (
        "the model was cast after it was built: .to(dtype) and .bfloat16() also cast buffers that must keep theirs",
        "load with from_pretrained(dtype=...) and do not cast the model afterwards",
    ),
    Cause.WEIGHT_DTYPE: (
        "the parameter was loaded in or cast to another dtype",
        "pass dtype= to from_pretrained, for sub-configs too, and do not cast afterwards",
    ),
    Cause.WEIGHT_SHAPE: (
        "the parameter has another shape: it was resized, packed or sharded",
        "compare models of one size; gather or unpack weights first",
    ),
    Cause.BUFFER_VALUE: (
        "the buffer was computed from other settings, or never computed after the model was made on the meta device",
        "let from_pretrained build the buffers; compare the rope and scaling fields of the two configs",
    ),
    Cause.NON_FINITE_WEIGHT: (
        "the weight holds NaN or infinity",
        "find the step of training, merging or conversion that made it; load the checkpoint again",
    ),
    Cause.NO_BITS: (
        "its values cannot be read: it was never loaded (it is on the meta device, or has no shape yet)",
        "look at what the loader says of missing keys, and load the model whole",
    ),
    Cause.WEIGHT_CLASS: (
        "the parameter is of another class: quantised, distributed, or marked by its loader",
        "compare before quantising or distributing; keep torch.nn.Parameter",
    ),
    Cause.MEMORY_LAYOUT: (
        "the parameter lies in memory otherwise: transposed, or in one memory with another that a step changes too",
        "give it memory of its own with contiguous().clone()",
    ),
    Cause.CHANGED_BY_RUNNING: (
        "running the model changed it: forward, generate or the backward pass writes to it",
        "write to no parameter, buffer or attribute while running; keep statistics elsewhere",
    ),
    Cause.REINITIALISED: (
        "nearly every element differs and the values look initialised: loading missed them, or init ran after it",
        "compare checkpoint keys with the module's names; call no init after loading",
    ),
    Cause.WEIGHT_BITS: (
        "the weight's bits are not the checkpoint's: changed, merged or quantised after loading, or from another file",
        "load the checkpoint again with from_pretrained; look for code that writes to the weight",
    ),
    Cause.TRAINABLE_FLAG: (
        "a freeze setting was applied",
        "leave requires_grad as from_pretrained leaves it, or call requires_grad_(True) after merging an adapter",
    ),
    Cause.LEFTOVER_GRADIENT: (
        "the loader left a gradient on the parameter, and the first step of training adds to it",
        "call model.zero_grad() before the model is returned",
    ),
    Cause.GLOBAL_HOOK: (
        "loading the candidate left a hook that torch calls for every module, or every saved tensor, of the process",
        "remove the handle that register_module_..._hook returned, or leave the block of saved_tensors_hooks",
    ),
    Cause.GLOBAL_FLAG: (
        "loading the candidate changed torch's global state",
        "restore the flag after loading; a mode or default device is best set in a with block",
    ),
    Cause.DEVICE: (
        "the tensor lies on another device than the reference's",
        "load both with one device_map where results are compared bit for bit",
    ),
    Cause.RNG_USE: (
        "loading or running the candidate drew random numbers that the reference does not draw",
        "draw from a torch.Generator of your own",
    ),
    Cause.RAISED: (
        "code fails while this is observed",
        "mend it at the line that raises",
    ),
    Cause.MASK: (
        "the attention mask is built from other inputs: attention_mask or token_type_ids are lost or changed",
        "pass both on as the processor made them, in forward and in prepare_inputs_for_generation",
    ),
    Cause.POSITIONS: (
        "position ids differ, and with them the rotary angles",
        "pass position_ids on, or leave them out as the base class does",
    ),
    Cause.CACHE: (
        "keys and values are kept in another way than the base class's cache",
        "build the cache from the model's config, with its sliding layers",
    ),
    Cause.NON_FINITE: (
        "an operation overflows, or divides by zero",
        "compare in bfloat16 or float32; look at the first module whose output is not finite",
    ),
    Cause.KERNEL_CHOICE: (
        "the first place that differs: another kernel ran, or other code",
        "compare flags, batch layout and library versions; look for a replaced function",
    ),
    Cause.LOSS_COUNT: (
        "the loss does not use the num_items_in_batch that a trainer passes for accumulated batches",
        "pass num_items_in_batch on to the loss function, through every forward that wraps another",
    ),
    Cause.PADDED_ROWS: (
        "a row alone, without padding, gives other results, though the padded batch does not",
        "look for code that depends on the batch's size or its padding",
    ),
    Cause.EMBEDDED_INPUTS: (
        "inputs_embeds is handled in another way than input_ids",
        "look at what forward does with inputs_embeds",
    ),
    Cause.OUTPUT_CLASS: (
        "the forward gives an object of another class; where its fields are others too, callers cannot ask the same",
        "return the output that the base class makes, or a subclass of its class",
    ),
    Cause.FORWARD_ARGUMENTS: (
        "an argument of forward (output_hidden_states, return_dict, position_ids, logits_to_keep) has another effect, "
        "or one that was left out (attention_mask, use_cache) has another default",
        "pass every argument on to the base class as it came, those too that the wrapper does not use",
    ),
    Cause.UNTRACED: (
        "the model gives other results when no hook looks at its modules",
        "look for code that asks for hooks, or that calls modules' forward without them",
    ),
    Cause.GENERATION: (
        "generate gives other results where no forward of the prompt is seen to differ: inputs are prepared otherwise",
        "look at prepare_inputs_for_generation and at what generate passes on",
    ),
    Cause.STATIC_CACHE: (
        "the preallocated cache (cache_implementation='static') keeps other tokens than the growing one",
        "compare the cache class, its length and its sliding layers with transformers' StaticCache",
    ),
    Cause.BEAMS: (
        "beam search gives other results where greedy decoding does not",
        "look at how the cache is reordered, and how inputs are repeated for each beam",
    ),
    Cause.TRAINING_LOSS: (
        "the loss is another one in training mode, where the step goes back from it",
        "look for code that asks self.training, and for terms that are added to the loss",
    ),
    Cause.GRADIENT_PATH: (
        "the gradient goes another way: something is detached, scaled or hooked in the backward pass",
        "look for detach(), no_grad and custom autograd functions",
    ),
    Cause.WRITTEN_KEYS: (
        "save_pretrained writes other keys than the base class does: others cannot load what it saved",
        "save under the base class's names; look at save_pretrained, state_dict= and ignored keys",
    ),
    Cause.WRITTEN_DTYPE: (
        "save_pretrained writes another dtype than the base class does",
        "save in the dtype that the weights are held in; look at state_dict= of save_pretrained",
    ),
    Cause.SAVING: (
        "the candidate does not come back as it was saved: a value is left out, rounded or cast on the way",
        "look at save_pretrained, ignored keys and the conversion of names",
    ),
    Cause.LEARNING_RATE: (
        "the optimizer's groups were built again, or its schedule has one rate for all of them",
        "build the groups after the model is prepared, and compare optimizer.param_groups with what was asked",
    ),
    Cause.FREEZE: (
        "the freeze was lost on loading or set after the optimizer was made, or what was frozen was cast and saved",
        "set requires_grad before the optimizer is made, and give it the parameters that train alone",
    ),
    Cause.RESUMED_WEIGHTS: (
        "training went on from other weights, or from another sample, than it had ended with",
        "look at whether the checkpoint's keys are the model's: a loader that only warns leaves the base's weights",
    ),
    Cause.RESUMED_STATE: (
        "the optimizer's moments or its schedule began anew",
        "save and load the optimizer's and the schedule's state with the weights",
    ),
    Cause.REDUCTION: (
        "gradients were rounded on their way between processes",
        "set reduce_dtype=torch.float32 in FSDP2's MixedPrecisionPolicy, and use no hook that compresses gradients",
    ),
    Cause.ENDED: ("its process ended before it had delivered what it was asked", "run it alone to see why"),
    Cause.UNKNOWN: ("the evidence does not tell", "look at the first place that differs"),
}

STORED_TWICE = (
    "the saved files hold a tied table twice, and whoever loads them has two that are no longer tied",
    "save without state_dict=, or leave the tied key out of it",
)
NOT_OBSERVED_THEN = (
    "one of the two fingerprints was made by a version of the harness that does not observe this",
    "make that fingerprint again with theworld-validate fingerprint",
)
OTHER_NAMES = (
    "save_pretrained writes other names than the base class does, which the base class loads all the same",
    "nothing has to be done for transformers; other readers may look for the base class's names",
)
EQUAL_UP_TO_HERE = "inputs and state are equal up to here: another kernel ran, or other code"
INPUTS_DIFFER = "what enters this module differs already: something between it and the modules before it"


def advise(cause: Cause) -> tuple[str, str]:
    """A kind of cause in words: (why, how to mend it)."""
    return ADVICE[cause]
