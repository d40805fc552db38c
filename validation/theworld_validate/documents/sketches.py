"""Sketches of tensors as documents carry them, and the distance that two of them tell.

In: sketches that `fingerprint.sketch` made, perhaps on two machines. Out: norms and distances, estimated.

A sketch is a linear map of the flattened tensor to `WIDTH` numbers: each element is added, with a random sign, to a
random one of them (the count sketch: Charikar, Chen, Farach-Colton, "Finding frequent items in data streams", ICALP
2002). So the sketch of a difference is the difference of the sketches, and the sum of its squares is an unbiased
estimate of the squared norm (Alon, Matias, Szegedy, "The space complexity of approximating the frequency moments",
STOC 1996) with a relative standard error of at most sqrt(2 / WIDTH) (Thorup and Zhang, SODA 2004). A distance, its
square root, has half of that.
"""

import base64
import binascii
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where it is used: every command reads this file
    import numpy as np

WIDTH = 128  # numbers of one sketch: 1 KiB, so that the 985 outputs of one probe at the 4B geometry take a megabyte
CHUNK_ELEMENTS = 4096
ALGORITHM = f"count-sketch/{WIDTH}x{CHUNK_ELEMENTS}"
DISTANCE_ERROR = math.sqrt(2 / WIDTH) / 2  # relative standard error of a distance: 6 %
_MAX_ELEMENTS = 2**48


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """The sketch of one tensor.

    Args:
        values: its `WIDTH` numbers, float64, little-endian, in base64.
        dtype: of the tensor, such as "bfloat16".
        elements: how many the tensor has.
        non_finite_chunks: of its chunks of `CHUNK_ELEMENTS`, how many hold a NaN, an infinity or what
            is too large to add up; these are left out.
    """

    __pydantic_config__ = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

    values: str
    dtype: str
    elements: int
    non_finite_chunks: int = 0


def pack(values: "np.ndarray", *, dtype: str, elements: int, non_finite_chunks: int = 0) -> Sketch:
    """Make a sketch of its (WIDTH,) float64 values."""
    import numpy as np

    text = base64.b64encode(np.ascontiguousarray(values, dtype="<f8").tobytes()).decode()
    return Sketch(values=text, dtype=dtype, elements=elements, non_finite_chunks=non_finite_chunks)


def unpack(sketch: Sketch) -> "np.ndarray":
    """The (WIDTH,) float64 values of a sketch.

    Raises:
        ValueError: if they are not that many finite numbers.
    """
    import numpy as np

    try:
        data = base64.b64decode(sketch.values, validate=True)
    except binascii.Error as error:
        raise ValueError("its values are no base64") from error
    if len(data) != 8 * WIDTH:
        raise ValueError(f"it has {len(data)} bytes, expected {8 * WIDTH}")
    values = np.frombuffer(data, dtype="<f8")
    if not np.isfinite(values).all():
        raise ValueError("its values are not finite")
    return values


def norm_of(sketch: Sketch) -> float:
    """Estimate the Euclidean norm of a tensor, less its chunks that are not finite."""
    import numpy as np

    return float(np.linalg.norm(unpack(sketch)))


def distance_between(one: Sketch, other: Sketch) -> float:
    """Estimate the Euclidean distance of two tensors; its relative standard error is `DISTANCE_ERROR`.

    Raises:
        ValueError: if they have not equally many elements.
    """
    import numpy as np

    if one.elements != other.elements:
        raise ValueError(f"{one.elements} and {other.elements} elements have no distance")
    return float(np.linalg.norm(unpack(one) - unpack(other)))


def why_no_sketch(sketch: Sketch) -> str | None:
    """What is wrong with one from a file; None if nothing is."""
    try:
        unpack(sketch)
    except ValueError as error:
        return str(error)
    chunks = -(-sketch.elements // CHUNK_ELEMENTS)
    if not (0 < sketch.elements <= _MAX_ELEMENTS and 0 <= sketch.non_finite_chunks <= chunks):
        return "its counts cannot be"
    return None
