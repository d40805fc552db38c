"""transformers' own common model tests, run on Gemma 3 and on TheWorld: see `nox -s ordinary`."""
