"""A small head fitted to frozen multimodal states: the question looks at the picture once.

A linear head on [CLS] cannot be asked about one of several things; one layer of attention with the
question as its query can. It is fitted the same way for the same states.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention


@dataclass(frozen=True)
class States:
    """Multimodal states of N pictures with questions.

    Attributes:
        states: (N, S, D) float: [CLS_M], [CLS_I], patches, tokens.
        present: (N, S) bool, False at padding.
        first_token: Position of the first token.
    """

    states: Tensor
    present: Tensor
    first_token: int

    def rows(self, index: Tensor) -> States:
        """Pick rows.

        Args:
            index: (n,) long.

        Returns:
            Those rows.
        """
        return States(self.states[index], self.present[index], self.first_token)


class AttentionHead(nn.Module):
    """One layer of multi-head attention, with the mean of the question's states as its query.

    Args:
        width: Width D of the states.
        classes: Number of answers C.
        heads: Attention heads.
    """

    def __init__(self, width: int, classes: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, classes)

    def forward(self, given: States) -> Tensor:
        """Score every answer.

        Args:
            given: States of N questions.

        Returns:
            (N, C) logits.
        """
        states = self.norm(given.states)
        words = states[:, given.first_token :]
        real = given.present[:, given.first_token :].unsqueeze(-1)
        question = (words * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp_min(1)
        query, key, value = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x in (self.query(question), self.key(states), self.value(states))
        )
        mask = given.present[:, None, None, :]
        seen = scaled_dot_product_attention(query, key, value, attn_mask=mask).flatten(1)
        logits: Tensor = self.output(gelu(self.hidden(seen)))
        return logits


def fit_head(
    given: States,
    labels: Tensor,
    classes: int,
    *,
    seed: int = 0,
    epochs: int = 4,
    batch: int = 64,
    lr: float = 3e-3,
    weight_decay: float = 0.05,
) -> AttentionHead:
    """Fit a head by AdamW with a falling learning rate.

    Args:
        given: States of N questions, on the CPU.
        labels: (N,) long, the answers.
        classes: Number of answers C.
        seed: First weights and the order of rows are a function of it.
        epochs: Passes over the rows.
        batch: Rows of a step.
        lr: Learning rate at the start; it falls to zero linearly.
        weight_decay: Of AdamW.

    Returns:
        The head.
    """
    generator = torch.Generator().manual_seed(seed)
    width = given.states.shape[-1]
    # the caller may be in inference mode, whose tensors cannot be trained with
    with torch.inference_mode(False), torch.enable_grad():
        given = States(given.states.clone(), given.present.clone(), given.first_token)
        labels = labels.clone()
        head = AttentionHead(width, classes, heads=4 if width % 4 == 0 else 1)
        with torch.no_grad():
            for name, parameter in head.named_parameters():
                if parameter.dim() == 2:
                    parameter.normal_(std=parameter.shape[1] ** -0.5, generator=generator)
                elif name != "norm.weight":
                    parameter.zero_()
        optimiser = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=weight_decay)
        order = torch.cat([torch.randperm(len(labels), generator=generator) for _ in range(epochs)])
        steps = torch.split(order, batch)
        for step, rows in enumerate(steps):
            for group in optimiser.param_groups:
                group["lr"] = lr * (1 - step / len(steps))
            loss = cross_entropy(head(given.rows(rows)), labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return head.requires_grad_(False)
