"""Logits and probabilities are told apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from edgeprune.models.outputs import as_logits


def test_logits_stay_what_they_are() -> None:
    logits = torch.randn(5, 3)
    assert as_logits(logits) is logits
    assert as_logits(F.relu(logits)).equal(F.relu(logits))


def test_probabilities_become_logits_that_give_them_back() -> None:
    for shape in ((5, 3), (2, 4, 3, 3)):
        p = (10 * torch.randn(shape)).softmax(1)
        torch.testing.assert_close(as_logits(p).softmax(1), p, rtol=1e-4, atol=1e-6)
    sure = torch.tensor([[1.0, 0.0]])
    assert torch.isfinite(as_logits(sure)).all()


def test_the_loss_of_a_network_with_a_softmax_is_that_of_its_logits() -> None:
    logits, labels = torch.randn(8, 4, requires_grad=True), torch.randint(4, (8,))
    expected = torch.autograd.grad(F.cross_entropy(logits, labels), logits)[0]
    found = torch.autograd.grad(F.cross_entropy(as_logits(logits.softmax(1)), labels), logits)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
