import pytest
import torch
from board_fixtures import device, store, target

from edgeprune.graph.network import Network, read_network
from edgeprune.models.zoo import build

__all__ = ["device", "network", "store", "target"]


@pytest.fixture(scope="session")
def network() -> Network:
    return read_network(build("resnet8", seed=0).eval(), (torch.zeros(1, 3, 32, 32),))
