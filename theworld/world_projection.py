"""World tokens from world latents: a linear projection, and a learned embedding of the time step.

In: normalised latents. Out: one token per latent cell, in Gemma's embedding space.
"""

# B batch, C latent channels, T latent steps, H W latent grid, N = H * W tokens a step, D hidden size

import torch
from torch import nn


class WorldProjection(nn.Module):
    """Projects the channels of each latent cell to Gemma's hidden size, with a bias."""

    def __init__(self, hidden_size: int, latent_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(latent_channels, hidden_size)

    def forward(self, latents_BCTHW: torch.Tensor) -> torch.Tensor:
        """Project latents (B, C, T, H, W) to tokens (B, T, H * W, D), rows of the grid first."""
        cells_BTNC = latents_BCTHW.permute(0, 2, 3, 4, 1).flatten(2, 3)
        return self.linear(cells_BTNC.to(self.linear.weight.dtype))


class TemporalEmbedding(nn.Module):
    """Adds to every token of a latent time step the learned vector of that step."""

    def __init__(self, max_world_steps: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(max_world_steps, hidden_size)

    def forward(self, tokens_BTND: torch.Tensor) -> torch.Tensor:
        """Add step t's vector to tokens (B, T, N, D).

        Raises:
            ValueError: if T is more than max_world_steps.
        """
        num_steps = tokens_BTND.shape[1]
        self.check_num_steps(num_steps)
        weight = self.embedding.weight
        # An offloaded table lies on the meta device between calls; its hook moves the steps to where it will be.
        steps_T = torch.arange(num_steps, device=tokens_BTND.device if weight.is_meta else weight.device)
        return tokens_BTND + self.embedding(steps_T)[:, None, :].to(tokens_BTND.device)

    def check_num_steps(self, num_steps: int) -> None:
        """Refuse more steps than there are vectors.

        Raises:
            ValueError: that names the setting.
        """
        max_steps = self.embedding.num_embeddings
        if num_steps > max_steps:
            raise ValueError(
                f"world_frames have {num_steps} latent time steps and max_world_steps is {max_steps}; "
                f"give at most {1 + 4 * (max_steps - 1)} frames, or load with a larger max_world_steps"
            )
