"""The digest of a tensor: of every bit, in order, with its dtype and shape; the same on CPU and CUDA.

In: tensors on any device. Out: 128 bits in hexadecimal. The bytes are cut into chunks of `CHUNK_BYTES` and each
is hashed with XXH3-128; the same is done with those hashes; and what that leaves is hashed behind the dtype and
shape. A CPU tensor is hashed where it lies. CUDA tensors are queued and hashed on the device, many to a launch;
only the last hashes, 16 bytes for each 16 MiB, are read back, once.

-0.0 and 0.0 differ, and NaNs of equal bits are equal. Two tensors that differ have one digest with a chance of
about 3 * 2**-128: XXH3 is made to be even, not to withstand an adversary.
"""

import ctypes
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import xxhash

from validation.fingerprint.chunks import BLOCK_BYTES, CHUNK_BYTES, HASH_BYTES, count_chunks

if TYPE_CHECKING:
    import torch

ALGORITHM = f"xxh3-128/{CHUNK_BYTES}"
# What a queue keeps alive of activations, before they are hashed: a launch costs the host 150 to 330 µs.
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


class DigestQueue:
    """Takes tensors as they come, and fills in their digests by `finish`.

    A CPU tensor is hashed as it comes; CUDA tensors are held until a launch is worth its while.

    Args:
        max_held_bytes: launch when the held ones exceed this; 0 launches for each, None not before `finish`.

    Attributes:
        changed_in_place: whether a queued tensor was written to before it was hashed; its digest is of what was
            written, so the caller asks again with `max_held_bytes=0`.
    """

    def __init__(self, max_held_bytes: int | None = MAX_HELD_BYTES) -> None:
        self.changed_in_place = False
        self._max_held_bytes = float("inf") if max_held_bytes is None else max_held_bytes
        self._held: list[tuple[torch.Tensor, int, dict[str, Any]]] = []
        self._held_bytes = 0
        self._launched: dict[torch.device, list[tuple[torch.Tensor, list[tuple[str, int, dict[str, Any]]]]]] = {}

    def add(self, tensor: "torch.Tensor", into: dict[str, Any]) -> None:
        """Digest `tensor`, now or by `finish`, and put the result into `into["digest"]`."""
        if tensor.is_meta:
            raise ValueError("a tensor on the meta device has no bits to digest")
        if (
            not tensor.is_cuda or not tensor.nbytes
        ):  # it is still in the processor's cache, and held memory would be missed
            into["digest"] = _digest_on_cpu(tensor)
            return
        self._held.append((tensor, version_of(tensor), into))
        self._held_bytes += tensor.nbytes
        if self._held_bytes > self._max_held_bytes or len(self._held) >= MAX_HELD_TENSORS:
            self._hash_held()

    def release(self) -> None:
        """Hash what is held, so that its memory can be used again."""
        self._hash_held()

    def finish(self) -> None:
        """Hash what is queued, read all of a device's hashes back at once, and fill in the digests."""
        self._hash_held()
        if not self._launched:
            return
        from validation.fingerprint.digest_cuda import launch_chunk_hashes

        for launches in self._launched.values():
            entries = [entry for _, group in launches for entry in group]
            of_tensors = [part for hashes, group in launches for part in hashes.split([n for _, n, _ in group])]
            hashes = launch_chunk_hashes(of_tensors).cpu().numpy().tobytes()
            start = 0
            for description, num_chunks, into in entries:
                stop = start + HASH_BYTES * count_chunks(HASH_BYTES * num_chunks)
                into["digest"] = _finish_digest(description, hashes[start:stop])
                start = stop
        self._launched.clear()

    def _hash_held(self) -> None:
        on_devices: dict[torch.device, list[tuple[torch.Tensor, dict[str, Any]]]] = {}
        for tensor, version, into in self._held:
            self.changed_in_place |= version_of(tensor) != version
            on_devices.setdefault(tensor.device, []).append((tensor, into))
        self._held.clear()
        self._held_bytes = 0
        for device, queued in on_devices.items():
            self._launched.setdefault(device, []).append(_launch(queued))


def version_of(tensor: "torch.Tensor") -> int:
    """How often a tensor was written to; 0 for those of inference mode, which do not count."""
    return 0 if tensor.is_inference() else tensor._version


def _launch(
    queued: "list[tuple[torch.Tensor, dict[str, Any]]]",
) -> "tuple[torch.Tensor, list[tuple[str, int, dict[str, Any]]]]":
    """Hash CUDA tensors of one device: the hashes there, and whose they are."""
    from validation.fingerprint.digest_cuda import launch_chunk_hashes

    tensors = []
    for tensor, _ in queued:
        data = tensor.detach().contiguous()
        tensors.append(data.clone() if data.data_ptr() % 8 else data)  # the kernel reads words of 8 bytes
    entries = [(describe_shape(tensor), count_chunks(tensor.nbytes), into) for tensor, into in queued]
    return launch_chunk_hashes(tensors), entries


def _digest_on_cpu(tensor: "torch.Tensor") -> str:
    data = tensor.detach().cpu() if tensor.device.type != "cpu" else tensor
    data = data if data.is_contiguous() else data.detach().contiguous()
    # The bytes where they lie: views through numpy cost more than hashing a small tensor does.
    view = memoryview(_byte_array(data.nbytes).from_address(data.data_ptr())) if data.nbytes else b""
    return _finish_digest(describe_shape(tensor), _hash_chunks(_hash_chunks(view)))


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
