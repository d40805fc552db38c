"""The digest of a tensor: of every bit, in order, with its dtype and shape; the same on CPU and CUDA.

In: tensors on any device. Out: 128 bits in hexadecimal. The bytes are cut into chunks of `CHUNK_BYTES` and each
is hashed with XXH3-128; the same is done with those hashes; and what that leaves is hashed behind the dtype and
shape. A CPU tensor is hashed where it lies. CUDA tensors are queued and hashed on the device, many to a launch;
only the last hashes, 16 bytes for each 16 MiB, are read back, once.

A tensor that is made of others, as a quantised or distributed one is, has the digest of its parts' digests.
-0.0 and 0.0 differ, and NaNs of equal bits are equal. Two tensors that differ have one digest with a chance of
about 3 * 2**-128: XXH3 is made to be even, not to withstand an adversary.
"""

import ctypes
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import xxhash

from theworld_validate.fingerprint.chunks import BLOCK_BYTES, CHUNK_BYTES, HASH_BYTES, count_chunks
from theworld_validate.fingerprint.tensor_parts import NoBits, is_plain, parts_of

if TYPE_CHECKING:
    import torch

    from theworld_validate.fingerprint.sketch import SketchBook

# What a queue keeps alive of activations, before they are hashed: a launch costs the host 200 to 500 µs amid a forward.
MAX_HELD_BYTES = 512 * 2**20
MAX_HELD_TENSORS = 512


def digest_tensor(tensor: "torch.Tensor") -> str:
    """Digest one tensor now."""
    seen: dict[str, Any] = {}
    queue = DigestQueue()
    queue.add(tensor, seen)
    queue.finish()
    return seen["digest"]


def describe_shape(tensor: "torch.Tensor") -> str:
    """Write dtype and shape: bfloat16[2, 3]."""
    return _describe(tensor.dtype, tensor.shape)


@lru_cache(maxsize=4096)
def _describe(dtype: "torch.dtype", shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')}{list(shape)}"


# A CUDA tensor that waits: with its version, its bytes, its description, and where its digest goes.
_Held = tuple["torch.Tensor", int, int, str, dict[str, Any]]
# A tensor that is made of others: its description, its parts' names and digests, and where its own goes.
_Composite = tuple[str, list[tuple[str, dict[str, Any]]], dict[str, Any]]
# The chunks' hashes of one launch, and for each of its tensors the description, its bytes, and where to.
_Launched = tuple["torch.Tensor", list[tuple[str, int, dict[str, Any]]]]


class DigestQueue:
    """Takes tensors as they come, and fills in their digests by `finish`.

    A CPU tensor is hashed as it comes; CUDA tensors are held until a launch is worth its while.

    Args:
        max_held_bytes: launch when the held ones exceed this; 0 launches for each, None not before `finish`.
        sketches: where to put a sketch of each plain tensor of floating point beside its digest; None for none.

    Attributes:
        changed_in_place: whether a queued tensor was written to before it was hashed; its digest is of what was
            written, so the caller asks again with `max_held_bytes=0`.
    """

    def __init__(self, max_held_bytes: int | None = MAX_HELD_BYTES, *, sketches: "SketchBook | None" = None) -> None:
        self.changed_in_place = False
        self._sketches = sketches
        self._max_held_bytes = float("inf") if max_held_bytes is None else max_held_bytes
        self._held: list[_Held] = []
        self._held_bytes = 0
        self._launched: dict[torch.device, list[_Launched]] = {}
        self._composites: list[_Composite] = []

    def add(self, tensor: "torch.Tensor", into: dict[str, Any], *, description: str | None = None) -> int:
        """Digest `tensor`, now or by `finish`, and put the result into `into["digest"]`; return its bytes.

        Args:
            description: what `describe_shape` says of it, if that is known.

        Raises:
            NoBits: if it has none: it lies on the meta device, or is a subclass that cannot be read.
        """
        if not is_plain(tensor):
            return self._add_parts(tensor, into, description or describe_shape(tensor))
        if tensor.is_meta:
            raise NoBits("a tensor on the meta device has no bits to digest")
        num_bytes = tensor.nbytes
        description = description or describe_shape(tensor)
        if not tensor.is_cuda or not num_bytes:  # it is still in the processor's cache, and held memory would be missed
            into["digest"] = _digest_on_cpu(tensor, num_bytes, description)
            if self._sketches is not None:
                self._sketches.add(tensor, into)
            return num_bytes
        self._held.append((tensor, version_of(tensor), num_bytes, description, into))
        self._held_bytes += num_bytes
        if self._held_bytes > self._max_held_bytes or len(self._held) >= MAX_HELD_TENSORS:
            self._hash_held()
        return num_bytes

    def _add_parts(self, tensor: "torch.Tensor", into: dict[str, Any], description: str) -> int:
        parts = parts_of(tensor)
        if len(parts) == 1 and not parts[0][0]:  # a subclass with memory of its own: its bits are its digest's
            return self.add(parts[0][1], into, description=description)
        seen: list[tuple[str, dict[str, Any]]] = [(name, {}) for name, _ in parts]
        num_bytes = sum(self.add(part, own) for (_, part), (_, own) in zip(parts, seen, strict=True))
        self._composites.append((description, seen, into))
        return num_bytes

    def release(self) -> None:
        """Hash what is held, so that its memory can be used again."""
        self._hash_held()

    def finish(self) -> None:
        """Hash what is queued, read all of a device's hashes back at once, and fill in the digests."""
        self._hash_held()
        for device, launches in self._launched.items():
            _fill_in(device, launches)
        self._launched.clear()
        for description, parts, into in self._composites:
            lines = "\n".join(f"{name} {seen['digest']}" for name, seen in parts)
            into["digest"] = _finish_digest(description, lines.encode())
        self._composites.clear()
        if self._sketches is not None:
            self._sketches.finish()

    def _hash_held(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        self.changed_in_place |= any(version_of(entry[0]) != entry[1] for entry in held)
        for device in {entry[0].device for entry in held}:
            group = [entry for entry in held if entry[0].device == device]
            self._launched.setdefault(device, []).append(_launch(device, group))
            if self._sketches is not None:
                self._sketches.launch([entry[0] for entry in group], [entry[4] for entry in group])


def version_of(tensor: "torch.Tensor") -> int:
    """How often a tensor was written to; 0 for those of inference mode, which do not count."""
    try:
        return tensor._version
    except RuntimeError:  # asking first would cost as much again, and this is asked twice for every output
        return 0


def _launch(device: "torch.device", group: "list[_Held]") -> "_Launched":
    """Hash CUDA tensors of one device: the hashes there, and whose they are."""
    from theworld_validate.fingerprint.digest_cuda import launch_chunk_hashes

    # Column by column: amid a forward the device waits for every microsecond that a tensor costs here.
    tensors, _, sizes, descriptions, places = zip(*group, strict=True)
    data = [tensor if tensor.is_contiguous() else tensor.detach().contiguous() for tensor in tensors]
    addresses = [tensor.data_ptr() for tensor in data]
    for i, address in enumerate(addresses):
        if address % 8:  # the kernel reads words of 8 bytes
            data[i] = data[i].detach().clone()
            addresses[i] = data[i].data_ptr()
    return launch_chunk_hashes(device, addresses, sizes), list(zip(descriptions, sizes, places, strict=True))


def _fill_in(device: "torch.device", launches: "list[_Launched]") -> None:
    """Hash the chunks' hashes, read what that leaves, and fill in the digests."""
    from theworld_validate.fingerprint.digest_cuda import launch_chunk_hashes

    entries, addresses, sizes = [], [], []
    for hashes, group in launches:
        address = hashes.data_ptr()
        for description, num_bytes, into in group:
            num_hash_bytes = HASH_BYTES * count_chunks(num_bytes)
            entries.append((description, HASH_BYTES * count_chunks(num_hash_bytes), into))
            addresses.append(address)
            sizes.append(num_hash_bytes)
            address += num_hash_bytes
    hashes = launch_chunk_hashes(device, addresses, sizes).cpu().numpy().tobytes()
    start = 0
    for description, num_bytes, into in entries:
        into["digest"] = _finish_digest(description, hashes[start : start + num_bytes])
        start += num_bytes


def _digest_on_cpu(tensor: "torch.Tensor", num_bytes: int, description: str) -> str:
    data = tensor if tensor.is_cpu else tensor.detach().cpu()
    data = data if data.is_contiguous() else data.detach().contiguous()
    # The bytes where they lie: views through numpy cost more than hashing a small tensor does.
    view = memoryview(_byte_array(num_bytes).from_address(data.data_ptr())) if num_bytes else b""
    return _finish_digest(description, _hash_chunks(_hash_chunks(view)))


@lru_cache(maxsize=4096)
def _byte_array(num_bytes: int) -> type[ctypes.Array]:
    return ctypes.c_char * num_bytes


def _hash_chunks(data: memoryview | bytes) -> bytes:
    """Hash each chunk: 16 bytes apiece, high half first; the last is filled up with zeros to whole blocks."""
    num_bytes = len(data)
    whole = num_bytes - num_bytes % CHUNK_BYTES
    hashes = [xxhash.xxh3_128_digest(data[start : start + CHUNK_BYTES]) for start in range(0, whole, CHUNK_BYTES)]
    if whole < num_bytes:
        rest = xxhash.xxh3_128(data[whole:])
        rest.update(bytes(-(num_bytes - whole) % BLOCK_BYTES))
        hashes.append(rest.digest())
    return b"".join(hashes)


def _finish_digest(description: str, hashes: memoryview | bytes) -> str:
    hasher = xxhash.xxh3_128(description.encode() + b"\0")
    hasher.update(hashes)
    return hasher.hexdigest()
