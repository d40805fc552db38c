"""How bytes are cut for the digest; the same on a CPU and on a GPU."""

CHUNK_BYTES = 16_384  # each chunk is hashed on its own: a GPU hashes them all at once
BLOCK_BYTES = 1_024  # XXH3's own block; the last chunk is filled up with zeros to a multiple of it
HASH_BYTES = 16


def count_chunks(num_bytes: int) -> int:
    """How many chunks `num_bytes` are cut into."""
    return -(-num_bytes // CHUNK_BYTES)
