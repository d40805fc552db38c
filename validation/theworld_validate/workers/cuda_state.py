"""Whether a process has started CUDA: what is forked from it cannot use a GPU then.

In: nothing. Out: yes or no, from the driver itself. torch alone cannot say: libraries start CUDA past it, as
torchao does when it is imported.
"""

import ctypes

_SUCCESS = 0  # CUresult; CUDA_ERROR_NOT_INITIALIZED is 3


def cuda_is_started() -> bool:
    """Ask the driver for the number of devices, which it tells only after `cuInit`; False without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int())) == _SUCCESS
