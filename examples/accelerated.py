"""Fine-tuning on several GPUs by Hugging Face accelerate, as a trainer that a task brings (docs/TASKS.md).

    pip install accelerate
    edgeprune fit … --data FOLDER --task examples/accelerated.py:classification

Everything else of a fit stays in its one process; accelerate starts as many as there are GPUs for the time of the
training, or as EDGEPRUNE_PROCESSES says, also on a computer without a GPU.
"""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader

from edgeprune import DataSet, Task
from edgeprune.models.inputs import as_inputs, call
from edgeprune.training.halves import Batch
from edgeprune.training.tasks.registry import load_task


def classification() -> Task:
    return accelerated("classification")


def accelerated(name: str) -> Task:
    """A ready task, fine-tuned by accelerate."""
    return replace(load_task(name), finetune=finetune)


def finetune(
    module: nn.Module,
    data: DataSet,
    *,
    task: Task,
    epochs: int,
    lr: float,
    batch_size: int,
    seed: int,
    teacher: nn.Module,
    distil_weight: float,
    temperature: float,
    **_: Any,
) -> dict[str, list[float]]:
    """Train ``module`` in place: each process has a copy, and the first one writes its weights back."""
    from accelerate import debug_launcher, notebook_launcher

    gpus = torch.cuda.device_count()
    processes = int(os.environ.get("EDGEPRUNE_PROCESSES", max(gpus, 1)))
    module.share_memory()
    losses = torch.zeros(epochs).share_memory_()
    # A task without a loss has the teacher alone, as in edgeprune's own trainer.
    weight = distil_weight if task.loss is not None else 1.0
    told = (module, data, task, teacher, weight, temperature, losses, epochs, lr, batch_size, seed)
    if processes == 1:
        train(*told)
    elif gpus:
        notebook_launcher(train, told, num_processes=processes)
    else:
        debug_launcher(train, told, num_processes=processes)
    return {"loss": losses.tolist()}


def train(
    module: nn.Module,
    data: DataSet,
    task: Task,
    teacher: nn.Module,
    weight: float,
    temperature: float,
    losses: Tensor,
    epochs: int,
    lr: float,
    batch_size: int,
    seed: int,
) -> None:
    """The training of one process: the same as edgeprune's own, on its share of each epoch."""
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    accelerator = Accelerator()
    set_seed(seed)
    numbers = DataLoader(range(data.train.size), batch_size, shuffle=True, drop_last=data.train.size > batch_size)  # type: ignore[arg-type]
    copied = copy.deepcopy(module).train()
    optimizer = torch.optim.SGD(copied.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    model, optimizer, numbers = accelerator.prepare(copied, optimizer, numbers)
    teacher = copy.deepcopy(teacher).to(accelerator.device).eval()
    schedule = OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * len(numbers) + 1)
    for epoch in range(epochs):
        total = 0.0
        for chosen in numbers:
            batch = data.train.take(chosen.cpu())
            batch = Batch(
                tuple(x.to(accelerator.device) for x in as_inputs(batch.inputs)), on(batch.targets, accelerator.device)
            )
            outputs = call(model, batch.inputs)
            with torch.no_grad():
                soft = call(teacher, batch.inputs)
            loss = weight * task.distil(outputs, soft, temperature)
            if task.loss is not None:
                loss = loss + (1 - weight) * task.loss(outputs, batch.targets)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item()
        losses[epoch] = total / len(numbers)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        with torch.no_grad():
            for name, tensor in accelerator.unwrap_model(model).state_dict().items():
                module.state_dict()[name].copy_(tensor)


def on(targets: Any, device: torch.device) -> Any:
    """Targets of any structure on a device."""
    return torch.utils._pytree.tree_map(lambda t: t.to(device) if isinstance(t, Tensor) else t, targets)
