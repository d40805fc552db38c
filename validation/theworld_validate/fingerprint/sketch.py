"""The sketch of a tensor: so little of it that it fits a document, and enough to tell how far it is from another.

In: floating-point tensors on any device, as their digests are taken. Out: a `Sketch` for each digest. Which number an
element is added to, and with which sign, is a hash of its flat index (SplitMix64: Steele, Lea, Flood, OOPSLA 2014),
so it is the same in every process, on every device and in every release, and asks no generator of torch's.

    code(i) = positions[i mod CHUNK] xor chunks[i div CHUNK]      8 bits: 7 name one of WIDTH numbers, 1 is the sign

The xor turns the sum over a chunk into that of any other one, so a device needs one table of positions: there a chunk
is a row, and all rows are multiplied with that table at once. On a CPU the sums are float64. On CUDA those of 16-bit
tensors are float32 within a chunk and float64 beyond, those of wider ones float64: the two devices' sketches differ
by less than `DEVICES_DIFFER_BY` of the norm. Chunks share a table, so for tensors whose chunks repeat each other the
error is up to sqrt(3) times that of independent hashes; rounding does not repeat.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from theworld_validate.documents.sketches import CHUNK_ELEMENTS, WIDTH, Sketch, pack

if TYPE_CHECKING:
    import torch

DEVICES_DIFFER_BY = 1e-5
_POSITIONS, _CHUNKS = 0x5851F42D4C957F2D, 0x14057B7EF767814F  # seeds of the two streams of codes
_MASK = (1 << 64) - 1
_CODES = 2 * WIDTH
_PIECE_CHUNKS = 16  # that are added up at once: a table of 512 KiB names their bins
_LARGEST = 1e290  # what as many as 2^48 of can be added up; a mask of float64 holds the least number that there is
_ROWS_AT_ONCE = 8_192  # of 4,096 elements: 64 MiB of a 16-bit dtype

# A launch: (T, WIDTH) sums, (T,) chunks that are not finite, and of each tensor dtype, elements and observation.
_Launched = tuple["torch.Tensor", "torch.Tensor", list[tuple[str, int, dict[str, Any]]]]


def sketch_tensor(tensor: "torch.Tensor") -> Sketch:
    """Sketch one tensor of floating point now.

    Raises:
        ValueError: if it is not of floating point, or empty.
    """
    if not can_be_sketched(tensor):
        raise ValueError(f"a {tensor.dtype} tensor of {tensor.numel()} elements has no sketch")
    book = SketchBook()
    seen: dict[str, Any] = {"digest": ""}
    if tensor.is_cuda:
        book.launch([tensor], [seen])
        book.finish()
    else:
        book.add(tensor, seen)
    return book.sketches[""]


def can_be_sketched(tensor: "torch.Tensor") -> bool:
    """Whether a plain tensor has numbers that can be a distance apart."""
    return tensor.is_floating_point() and tensor.numel() > 0


class SketchBook:
    """Sketches by the digest of what they are of: equal tensors have one.

    What a model gives for padding is read by nobody, and each attention gives something else there; so it is sketched
    as zeros. The digest is of everything.

    Args:
        padding: (B, L) bool, true where a prompt is padding; None where there is none.

    Attributes:
        sketches: those that are done; all of them after `finish`.
    """

    def __init__(self, padding: "torch.Tensor | None" = None) -> None:
        self.sketches: dict[str, Sketch] = {}
        self._padding = padding
        self._launched: list[_Launched] = []

    def add(self, tensor: "torch.Tensor", seen: dict[str, Any]) -> None:
        """Sketch a plain tensor that is not on CUDA and whose digest is known, unless one of that digest is done."""
        digest = seen["digest"]
        if digest in self.sketches or not can_be_sketched(tensor):
            return
        values, non_finite = _sketch_on_cpu(self._without_padding(tensor))
        self.sketches[digest] = pack(
            values, dtype=_name_of(tensor), elements=tensor.numel(), non_finite_chunks=non_finite
        )

    def launch(self, tensors: "Sequence[torch.Tensor]", places: Sequence[dict[str, Any]]) -> None:
        """Sketch plain tensors of one device there; nothing is read back before `finish`.

        Args:
            places: their observations, which have their digests by `finish`.
        """
        groups: dict[Any, list[int]] = {}
        for i, tensor in enumerate(tensors):
            if can_be_sketched(tensor):
                groups.setdefault(tensor.dtype, []).append(i)
        for group in groups.values():
            chosen = [self._without_padding(tensors[i]) for i in group]
            sums, non_finite = sketch_on_device(chosen)
            facts = [(_name_of(tensors[i]), tensors[i].numel(), places[i]) for i in group]
            self._launched.append((sums, non_finite, facts))

    def _without_padding(self, tensor: "torch.Tensor") -> "torch.Tensor":
        """Zeros at the padding of a tensor (B, L, ...), (B, H, L, ...) or (B * L, ...); a cache may hold L's end."""
        if self._padding is None or not tensor.dim():
            return tensor
        (rows, length), shape = self._padding.shape, tensor.shape
        if shape[0] == rows * length:
            mask = self._padding.reshape(-1, *(1,) * (tensor.dim() - 1))
        elif shape[0] == rows and length in shape[1:3]:
            before = shape[1:3].index(length)
            mask = self._padding.reshape(rows, *(1,) * before, length, *(1,) * (tensor.dim() - before - 2))
        elif shape[0] == rows and len(shape) == 4 and shape[2] < length:
            mask = self._padding[:, None, length - shape[2] :, None]
        else:
            return tensor
        return tensor.detach().masked_fill(mask.to(tensor.device), 0)

    def finish(self) -> None:
        """Read back what was launched."""
        for sums, non_finite, facts in self._launched:
            values, counts = sums.cpu().numpy(), non_finite.tolist()
            for row, count, (dtype, elements, seen) in zip(values, counts, facts, strict=True):
                if "digest" in seen:
                    sketch = pack(row, dtype=dtype, elements=elements, non_finite_chunks=count)
                    self.sketches.setdefault(seen["digest"], sketch)
        self._launched.clear()


def _name_of(tensor: "torch.Tensor") -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _codes(seed: int, start: int, count: int) -> np.ndarray:
    """The codes `start` to `start + count` of a stream: the top bits of SplitMix64, (count,) int64."""
    with np.errstate(over="ignore"):
        index = np.arange(start + 1, start + count + 1, dtype=np.uint64)
        word = np.uint64(seed & _MASK) + index * np.uint64(0x9E3779B97F4A7C15)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        word ^= word >> np.uint64(31)
    return (word >> np.uint64(64 - _CODES.bit_length() + 1)).astype(np.int64)


@cache
def _position_codes() -> np.ndarray:
    return _codes(_POSITIONS, 0, CHUNK_ELEMENTS)


@cache
def _bins() -> np.ndarray:
    """Of each element of a piece the bin that its position names, in a row of bins for each chunk."""
    rows = np.arange(_PIECE_CHUNKS)[:, None] * _CODES
    return (rows + _position_codes()[None, :]).reshape(-1)


@lru_cache(maxsize=256)  # 32 KiB each; the same for every tensor of as many chunks
def _bins_of_chunks(first_chunk: int, num_chunks: int) -> np.ndarray:
    """(num_chunks, _CODES): from which bin of a chunk's row each code's sum comes."""
    own = np.arange(_CODES)[None, :] ^ _codes(_CHUNKS, first_chunk, num_chunks)[:, None]
    return own + np.arange(num_chunks)[:, None] * _CODES


def _sketch_on_cpu(tensor: "torch.Tensor") -> tuple[np.ndarray, int]:
    """(WIDTH,) float64, and how many chunks are not finite."""
    import torch

    data = tensor.detach().reshape(-1)
    if data.element_size() < 4:
        data = data.to(torch.float32)
    flat = data.cpu().numpy()
    piece = _PIECE_CHUNKS * CHUNK_ELEMENTS
    sums, non_finite = np.zeros(_CODES), 0
    for number, start in enumerate(range(0, len(flat), piece)):
        part = flat[start : start + piece]
        chunks = -(-len(part) // CHUNK_ELEMENTS)
        added = np.bincount(_bins()[: len(part)], weights=part, minlength=chunks * _CODES)
        order = _bins_of_chunks(number * _PIECE_CHUNKS, chunks)
        total = added[order].sum(axis=0)
        if not (np.abs(total) < _LARGEST).all():
            by_chunk = added.reshape(chunks, _CODES)
            finite = (np.abs(by_chunk) < _LARGEST).all(axis=1)
            non_finite += int((~finite).sum())
            by_chunk[~finite] = 0
            total = added[order].sum(axis=0)
        sums += total
    return sums[:WIDTH] - sums[WIDTH:], non_finite


def sketch_on_device(tensors: "Sequence[torch.Tensor]") -> "tuple[torch.Tensor, torch.Tensor]":
    """Sketch tensors of one dtype and device by products with the table of positions.

    Returns:
        (T, WIDTH) float64 and (T,) int64, on the device: the sums, and the chunks that are not finite.
    """
    import torch

    device = tensors[0].device
    rows = [-(-tensor.numel() // CHUNK_ELEMENTS) for tensor in tensors]
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        projected = torch.cat([_project(chunks) for chunks in _in_chunks(tensors)])
        finite = (projected.abs() < _LARGEST).all(dim=1, keepdim=True)
        by_row = np.concatenate([_codes(_CHUNKS, 0, count) for count in rows])
        codes = torch.from_numpy(by_row).to(device, non_blocking=True)[:, None]
        columns = torch.arange(WIDTH, device=device)[None] ^ (codes % WIDTH)
        signed = projected.gather(1, columns).double() * (1 - 2 * (codes // WIDTH))
        signed = torch.where(finite, signed, 0.0)
        lengths = torch.tensor(rows, device=device)
        sums = torch.segment_reduce(signed, "sum", lengths=lengths, axis=0)
        bad = torch.segment_reduce((~finite).double(), "sum", lengths=lengths, axis=0)
    return sums, bad[:, 0].round().long()


def _in_chunks(tensors: "Sequence[torch.Tensor]") -> "list[torch.Tensor]":
    """Tensors as rows of CHUNK_ELEMENTS, in order: whole large ones as they lie, others filled up and put together."""
    import torch

    made: list[torch.Tensor] = []
    waiting: list[torch.Tensor] = []
    num_waiting = 0

    def put_together() -> None:
        nonlocal num_waiting
        if waiting:
            made.append(torch.cat(waiting).view(-1, CHUNK_ELEMENTS))
        waiting.clear()
        num_waiting = 0

    for tensor in tensors:
        flat = tensor.detach().reshape(-1)
        rest = -len(flat) % CHUNK_ELEMENTS
        if not rest and len(flat) >= 64 * CHUNK_ELEMENTS:
            put_together()
            made.append(flat.view(-1, CHUNK_ELEMENTS))
            continue
        waiting += [flat, flat.new_zeros(rest)] if rest else [flat]
        num_waiting += len(flat) + rest
        if num_waiting >= _ROWS_AT_ONCE * CHUNK_ELEMENTS:
            put_together()
    put_together()
    return made


def _project(chunks: "torch.Tensor") -> "torch.Tensor":
    """(R, CHUNK_ELEMENTS) to (R, WIDTH): the sums of a chunk as if its own code were 0."""
    import torch

    is_short = chunks.element_size() == 2
    if is_short and chunks.is_cuda:  # products with 1 and -1 are exact, and the sums float32
        return torch.mm(chunks, _matrix_on(chunks.device, chunks.dtype), out_dtype=torch.float32)
    table = _matrix_on(chunks.device, torch.float64)
    pieces = [piece.double() @ table for piece in chunks.split(_ROWS_AT_ONCE // 8)]
    return torch.cat(pieces)


@cache
def _matrix_on(device: "torch.device", dtype: "torch.dtype") -> "torch.Tensor":
    """(CHUNK_ELEMENTS, WIDTH): one 1 or -1 in each row."""
    import torch

    codes = torch.from_numpy(_position_codes())
    table = torch.zeros(CHUNK_ELEMENTS, WIDTH, dtype=dtype)
    table[torch.arange(CHUNK_ELEMENTS), codes % WIDTH] = (1 - 2 * (codes // WIDTH)).to(dtype)
    return table.to(device)
