"""Projection and temporal embedding: which latent becomes which token."""

import pytest
import torch

from theworld.world_projection import TemporalEmbedding, WorldProjection


def test_tokens_follow_the_grid_row_by_row() -> None:
    projection = WorldProjection(hidden_size=5, latent_channels=16)
    latents = torch.randn(2, 16, 3, 4, 6)
    tokens = projection(latents)
    assert tokens.shape == (2, 3, 24, 5)
    torch.testing.assert_close(tokens[1, 2, 1 * 6 + 5], projection.linear(latents[1, :, 2, 1, 5]))


def test_each_step_has_its_own_vector() -> None:
    embedding = TemporalEmbedding(max_world_steps=3, hidden_size=5)
    tokens = embedding(torch.zeros(2, 3, 4, 5))
    for step in range(3):
        assert torch.equal(tokens[:, step], embedding.embedding.weight[step].expand(2, 4, 5))


def test_too_many_steps_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="4 latent time steps and max_world_steps is 3; give at most 9 frames"):
        TemporalEmbedding(max_world_steps=3, hidden_size=5)(torch.zeros(1, 4, 1, 5))
