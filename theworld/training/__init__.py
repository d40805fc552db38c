"""Training in stages: a config in, a checkpoint a stage out; `theworld-train CONFIG` runs it.

transformers' `Trainer` on Accelerate does the work. Importing this package loads nothing heavy.
"""
