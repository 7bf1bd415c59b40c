"""Criteria of second order: from the Hessian of the loss, which is never formed.

What the loss becomes without a channel is, near a minimum, half the Hessian's quadratic form of the weights that go.
Products of the Hessian with a vector cost two backward passes (Pearlmutter 1994, "Fast Exact Multiplication by the
Hessian"); all else here is made of these, or of gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from edgeprune.errors import UsageError
from edgeprune.graph.network import Network
from edgeprune.importance.criterion import Batches, LossFn, loss_of
from edgeprune.importance.gradients import differentiating, gradients
from edgeprune.importance.of_weights import JOINT, OfWeights
from edgeprune.methods import chosen
from edgeprune.models.inputs import Inputs, as_inputs
from edgeprune.training.halves import at

FISHER, HUTCHINSON, EXACT = ESTIMATES = ("fisher", "hutchinson", "exact")
CONTRIBUTION, ROW = FORMS = ("contribution", "row")
LARGEST = 2_000
"""Weights up to which the exact diagonal is computed: it takes as many products."""
AT_ONCE = 50_000_000
"""Signs that are held at once, each with what the Hessian makes of it (1 GB)."""

Vectors = dict[str, Tensor]


def hessian_products(
    network: Network, of: Mapping[str, Tensor], vectors: Sequence[Vectors], batches: Batches, loss_fn: LossFn | None
) -> list[Vectors] | None:
    """Products of the mean loss's Hessian with vectors; None without batches.

    Args:
        of: the parameters by which is differentiated; a vector has one tensor for each.
    """
    first = {id(p): name for name, p in reversed([*of.items()])}  # a tied parameter is one variable under several names
    names, module = [*first.values()], network.module
    parameters = [of[name] for name in names]
    sums = [[torch.zeros_like(p, dtype=torch.double) for p in parameters] for _ in vectors]
    samples = 0
    for x, y in batches:
        size = len(as_inputs(x)[0])
        samples += size
        with differentiating(module, parameters):
            loss = loss_of(module, x, y, loss_fn)
            slopes = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
            for vector, totals in zip(vectors, sums, strict=True):
                along = torch.stack([(g * vector[n]).sum() for n, g in zip(names, slopes, strict=True)]).sum()
                if not along.requires_grad:  # the loss is linear in all of them
                    continue
                found = torch.autograd.grad(along, parameters, retain_graph=True, materialize_grads=True)
                for total, values in zip(totals, found, strict=True):
                    total += values.double() * size
    if not samples:
        return None
    products = [dict(zip(names, totals, strict=True)) for totals in sums]
    return [{name: found[first[id(p)]] / samples for name, p in of.items()} for found in products]


class HessianDiagonal(OfWeights):
    """0.5 * h * w^2 over all parameters that write the channel, h the Hessian's diagonal (LeCun et al. 1990, "Optimal
    Brain Damage", eq. 5); 0 where curvatures below zero outweigh.

    Args:
        estimate: ``fisher``, mean squared gradients of single samples, never negative, and the Hessian itself where a
            network predicts as well as it can; ``hutchinson``, z * Hz for random signs z (Bekas et al. 2007, "An
            estimator for the diagonal of a matrix"); ``exact``, for small networks.
        probes: vectors z of ``hutchinson``.
    """

    name: ClassVar[str] = "hessian_diagonal"
    needs_data: ClassVar[bool] = True
    trained: ClassVar[bool] = True

    def __init__(self, estimate: str = FISHER, probes: int = 8, combine: str = JOINT, seed: int = 0) -> None:
        super().__init__(combine)
        self.estimate = chosen(f"criterion '{self.name}'", "estimate", estimate, ESTIMATES)
        if probes < 1:
            raise UsageError(f"criterion '{self.name}' cannot estimate by {probes} probes", hint="give probes=8")
        self.probes, self.seed = probes, seed

    def signals(
        self, network: Network, wanted: Mapping[str, Tensor], batches: Batches | None, loss_fn: LossFn | None
    ) -> Iterator[Mapping[str, Tensor]]:
        diagonal = self.diagonal(network, wanted, batches or (), loss_fn)
        if diagonal is not None:
            yield {name: 0.5 * h * wanted[name].detach().double().square() for name, h in diagonal.items()}

    def diagonal(
        self, network: Network, of: Mapping[str, Tensor], batches: Batches, loss_fn: LossFn | None
    ) -> Vectors | None:
        """The diagonal as it is estimated; None without batches."""
        if self.estimate == FISHER:
            return self._fisher(network, of, batches, loss_fn)
        if self.estimate == EXACT:
            return self._exact(network, of, batches, loss_fn)
        return self._hutchinson(network, of, batches, loss_fn)

    def _hutchinson(
        self, network: Network, of: Mapping[str, Tensor], batches: Batches, loss_fn: LossFn | None
    ) -> Vectors | None:
        batches, generator = list(batches), torch.Generator().manual_seed(self.seed)
        total = {n: torch.zeros_like(p, dtype=torch.double) for n, p in of.items()}
        left = self.probes
        while left:
            together = min(left, max(1, AT_ONCE // sum(p.numel() for p in of.values())))
            signs = [
                {n: torch.randint(0, 2, p.shape, generator=generator).to(p) * 2 - 1 for n, p in of.items()}
                for _ in range(together)
            ]
            found = hessian_products(network, of, signs, batches, loss_fn)
            if found is None:
                return None
            for z, hz in zip(signs, found, strict=True):
                for name in of:
                    total[name] += z[name] * hz[name] / self.probes
            left -= together
        return total

    def _fisher(
        self, network: Network, of: Mapping[str, Tensor], batches: Batches, loss_fn: LossFn | None
    ) -> Vectors | None:
        total, count = {n: torch.zeros_like(p, dtype=torch.double) for n, p in of.items()}, 0
        singles = (sample for x, y in batches for sample in _singles(x, y))
        for found in gradients(network.module, of, singles, loss_fn):
            count += 1
            for name, g in found.items():
                total[name] += g.double().square()
        return {name: values / count for name, values in total.items()} if count else None

    def _exact(
        self, network: Network, of: Mapping[str, Tensor], batches: Batches, loss_fn: LossFn | None
    ) -> Vectors | None:
        weights = sum(p.numel() for p in of.values())
        if weights > LARGEST:
            raise UsageError(
                f"the exact diagonal of {weights:,} weights takes as many products with the Hessian",
                hint=f"up to {LARGEST:,} are offered; take estimate=hutchinson",
            )
        batches = list(batches)
        diagonal = {n: torch.zeros_like(p, dtype=torch.double) for n, p in of.items()}
        for name, p in of.items():
            for i in range(p.numel()):
                unit = {n: torch.zeros_like(q) for n, q in of.items()}
                unit[name].view(-1)[i] = 1
                found = hessian_products(network, of, [unit], batches, loss_fn)
                if found is None:
                    return None
                diagonal[name].view(-1)[i] = found[0][name].view(-1)[i]
        return diagonal

    @staticmethod
    def norm(values: Tensor) -> Tensor:
        return values.sum(1).clamp(min=0)


class HessianProduct(OfWeights):
    """abs(sum of w_i * (Hw)_i) over all parameters that write the channel: twice the part that the channel has in the
    quadratic form of all weights, those it shares with other channels included. No Hessian is formed.

    Args:
        form: ``contribution``, as above; ``row``, the sum of (Hw)_i alone, by how much the loss's slope along the
            channel's weights changes as all weights shrink.
    """

    name: ClassVar[str] = "hessian_product"
    needs_data: ClassVar[bool] = True
    trained: ClassVar[bool] = True

    def __init__(self, form: str = CONTRIBUTION, combine: str = JOINT) -> None:
        super().__init__(combine)
        self.form = chosen(f"criterion '{self.name}'", "form", form, FORMS)

    def signals(
        self, network: Network, wanted: Mapping[str, Tensor], batches: Batches | None, loss_fn: LossFn | None
    ) -> Iterator[Mapping[str, Tensor]]:
        every = dict(network.module.named_parameters()) | dict(wanted)
        weights = {name: p.detach() for name, p in every.items()}
        found = hessian_products(network, every, [weights], batches or (), loss_fn)
        if found is None:
            return
        if self.form == ROW:
            yield {name: found[0][name] for name in wanted}
        else:
            yield {name: weights[name].double() * found[0][name] for name in wanted}

    @staticmethod
    def norm(values: Tensor) -> Tensor:
        return values.sum(1).abs()


def _singles(x: Inputs, y: Any) -> Iterator[tuple[Inputs, Any]]:
    """The samples of a batch, as batches of one."""
    size = len(as_inputs(x)[0])
    if size == 1:
        yield x, y
        return
    # Tensors count samples in their first dimension, and lists have one entry a sample, whatever that is.
    known = [leaf for leaf in tree_leaves(y, is_leaf=lambda v: isinstance(v, list)) if isinstance(leaf, Tensor | list)]
    counts = {len(leaf) if isinstance(leaf, list) or leaf.dim() else 0 for leaf in known}
    if not counts <= {size}:
        raise UsageError(
            "targets of single samples cannot be told from those of a batch",
            hint="take estimate=hutchinson",
        )
    for i in range(size):
        one = slice(i, i + 1)
        inputs = x[one] if isinstance(x, Tensor) else tuple(t[one] for t in x)
        yield inputs, at(y, torch.tensor([i]))
