"""The digest of a tensor: of every bit, in order, with its dtype and shape; the same on CPU and CUDA.

In: tensors on any device. Out: 128 bits in hexadecimal. The bytes are cut into chunks of `CHUNK_BYTES`, each
is hashed with XXH3-128, and so are the description and the chunks' hashes. A CPU tensor is hashed where it
lies. CUDA tensors are queued and hashed on the device, many to a launch; only hashes are read back, once.

-0.0 and 0.0 differ, and NaNs of equal bits are equal. Two tensors that differ have one digest with a chance of
about (chunks + 1) * 2**-128: XXH3 is made to be even, not to withstand an adversary.
"""

from typing import TYPE_CHECKING, Any

import xxhash

from validation.fingerprint.chunks import BLOCK_BYTES, CHUNK_BYTES

if TYPE_CHECKING:
    import torch

ALGORITHM = f"xxh3-128/{CHUNK_BYTES}"
# What a queue keeps alive of activations, before they are hashed; a launch costs some 20 µs.
MAX_HELD_BYTES = 32 * 2**20
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
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


class DigestQueue:
    """Takes tensors as they come, and fills in their digests by `finish`.

    Args:
        max_held_bytes: launch when the queued CUDA tensors exceed this; None if they live on anyway.
    """

    def __init__(self, max_held_bytes: int | None = MAX_HELD_BYTES) -> None:
        self._max_held_bytes = max_held_bytes
        self._held: dict[torch.device, list[torch.Tensor]] = {}
        self._held_bytes = 0
        self._waiting: dict[torch.device, list[tuple[str, int, dict[str, Any]]]] = {}
        self._launched: dict[torch.device, list[torch.Tensor]] = {}

    def add(self, tensor: "torch.Tensor", into: dict[str, Any]) -> None:
        """Digest `tensor`, now or by `finish`, and put the result into `into["digest"]`."""
        if tensor.is_meta:
            raise ValueError("a tensor on the meta device has no bits to digest")
        description = describe_shape(tensor)
        data = tensor.detach()
        num_bytes = data.numel() * data.element_size()
        if not data.is_cuda or num_bytes == 0:
            into["digest"] = _combine(description, _hash_chunks(data))
            return
        data = data.contiguous()
        if data.data_ptr() % 8:  # the kernel reads words of 8 bytes
            data = data.clone()
        self._held.setdefault(data.device, []).append(data)
        self._waiting.setdefault(data.device, []).append((description, -(-num_bytes // CHUNK_BYTES), into))
        self._held_bytes += num_bytes
        is_full = self._max_held_bytes is not None and self._held_bytes > self._max_held_bytes
        if is_full or len(self._held[data.device]) >= MAX_HELD_TENSORS:
            self._launch()

    def finish(self) -> None:
        """Launch what is queued, read all hashes back, and fill in the digests."""
        self._launch()
        import torch

        for device, waiting in self._waiting.items():
            hashes = torch.cat(self._launched[device]).cpu().numpy().astype(">i8").tobytes()
            start = 0
            for description, num_chunks, into in waiting:
                into["digest"] = _combine(description, hashes[16 * start : 16 * (start + num_chunks)])
                start += num_chunks
        self._waiting.clear()
        self._launched.clear()

    def _launch(self) -> None:
        if not self._held:
            return
        from validation.fingerprint.digest_cuda import launch_chunk_hashes

        for device, tensors in self._held.items():
            self._launched.setdefault(device, []).append(launch_chunk_hashes(tensors))
        self._held.clear()
        self._held_bytes = 0


def _hash_chunks(data: "torch.Tensor") -> bytes:
    """Hash a tensor's chunks on the CPU: 16 bytes each, high half first."""
    import torch

    array: Any = data.cpu().contiguous().view(-1).view(torch.uint8).numpy()
    view = memoryview(array)
    num_bytes = len(view)
    whole = num_bytes - num_bytes % CHUNK_BYTES
    hashes = [xxhash.xxh3_128_digest(view[start : start + CHUNK_BYTES]) for start in range(0, whole, CHUNK_BYTES)]
    if whole < num_bytes:
        rest = xxhash.xxh3_128(view[whole:])
        rest.update(bytes(-(num_bytes - whole) % BLOCK_BYTES))
        hashes.append(rest.digest())
    return b"".join(hashes)


def _combine(description: str, hashes: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(description.encode() + b"\0" + hashes)
