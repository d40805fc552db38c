"""The sides and lengths of clips: what holds where nothing is said, and the most that a config may ask for.

In: nothing. Out: constants, for whoever checks a config without importing torch or transformers.
"""

DEFAULT_FRAME_SIZE = 224  # pixels
MAX_FRAME_SIZE = 4096  # pixels
MAX_WORLD_STEPS = 65_536  # latent steps of one clip
