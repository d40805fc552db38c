"""What the fork server imports, on a machine where one of the libraries has started CUDA."""

from theworld_validate.workers import preload

preload.CUDA_IS_STARTED = True
