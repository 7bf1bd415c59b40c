from __future__ import annotations

import copy
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from payload import Payload
from torch import nn

from edgeprune.errors import ModelLoadError, UnsupportedOperatorError
from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace
from edgeprune.models.loading import load_model
from edgeprune.models.zoo import build
from edgeprune.pruning.mask import check_equal, mask
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.constant = torch.arange(8.0).reshape(1, 8, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.norm(self.conv(x))) * self.constant


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("pt2") / "net.pt2"
    torch.export.save(torch.export.export(Net().eval(), (X,)), file)
    return file


Records = dict[str, bytes]


def rewritten(archive: Path, folder: Path, change: Callable[[Records], None]) -> Path:
    with zipfile.ZipFile(archive) as old:
        records = {n.partition("/")[2]: old.read(n) for n in old.namelist()}
    change(records)
    file = folder / "changed.pt2"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as new:
        for name, content in records.items():
            new.writestr(f"net/{name}", content)
    return file


def with_json(record: str, change: Callable[[Any], None]) -> Callable[[Records], None]:
    def apply(records: Records) -> None:
        data = json.loads(records[record])
        change(data)
        records[record] = json.dumps(data).encode()

    return apply


def pickled(thing: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def test_a_zoo_network_comes_back_the_same(tmp_path: Path) -> None:
    module = build("resnet20")
    torch.export.save(torch.export.export(module, (X,)), tmp_path / "net.pt2")
    loaded = load_model(str(tmp_path / "net.pt2"))
    assert loaded.name == "net"
    assert loaded.example_inputs[0].shape == X.shape
    assert loaded.module.state_dict().keys() == module.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(loaded.module(X), module(X))
    torch.export.export(loaded.module, loaded.example_inputs)
    copy.deepcopy(loaded.module)


def test_it_trains_as_the_original_does(archive: Path) -> None:
    module = load_model(str(archive)).module
    norm = module.get_submodule("norm")
    assert isinstance(norm, nn.BatchNorm2d)
    before = norm.running_mean.clone()
    module.eval()(X)
    assert torch.equal(norm.running_mean, before)
    module.train()
    torch.manual_seed(0)
    first = module(X)
    assert not torch.equal(norm.running_mean, before)
    assert not torch.equal(module(X), first), "dropout does not drop"
    first.sum().backward()
    assert module.get_parameter("conv.weight").grad is not None


class Depthwise(nn.Module):
    """Every kind of depthwise convolution that a layer can be."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.twice = nn.Conv2d(8, 8, 3, padding="same", groups=8, bias=False)
        self.wide = nn.Conv2d(8, 16, (3, 1), stride=(2, 1), padding=1, dilation=2, groups=8)
        self.up = nn.ConvTranspose2d(16, 32, 2, stride=2, groups=16)
        self.grouped = nn.Conv2d(32, 4, 1, groups=2)
        self.line = nn.Conv1d(4, 4, 3, groups=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.twice(self.twice(self.stem(x)).relu())
        return self.line(self.grouped(self.up(self.wide(x))).flatten(2))


def test_depthwise_convolutions_are_layers_again_and_can_lose_channels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Depthwise().eval()
    torch.export.save(torch.export.export(module, (X,)), tmp_path / "net.pt2")
    loaded = load_model(str(tmp_path / "net.pt2")).module
    assert list(loaded.state_dict()) == list(module.state_dict())
    assert torch.equal(loaded(X), module(X))
    layers = {name: layer for name, layer in loaded.named_modules() if isinstance(layer, nn.modules.conv._ConvNd)}
    assert {name: repr(layer) for name, layer in layers.items()} == {
        name: repr(layer) for name, layer in module.named_children() if name not in ("stem", "grouped")
    }
    graph, original = (analyse(trace(m, (X,))).graph for m in (loaded, module))
    assert [g.size for g in graph.prunable] == [g.size for g in original.prunable] == [4]
    plan = make_plan(graph, {g.name: 1 for g in graph.prunable}, {g.name: np.arange(g.size) for g in graph.prunable})
    check_equal(mask(loaded, graph, plan), shrink(loaded, graph, plan), (X,), graph=graph, plan=plan)


def test_filters_that_are_no_layer_s_stay_functions(tmp_path: Path) -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filters, self.conv = nn.Parameter(torch.rand(3, 1, 3, 3)), nn.Conv2d(3, 3, 3, groups=3, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.conv2d(self.conv(x), self.filters, groups=3)
            return y + F.conv2d(x, self.conv.weight, groups=3, dilation=2)

    module = Functional().eval()
    torch.export.save(torch.export.export(module, (X,)), tmp_path / "net.pt2")
    loaded = load_model(str(tmp_path / "net.pt2")).module
    assert torch.equal(loaded(X), module(X))
    assert not any(isinstance(layer, nn.modules.conv._ConvNd) for layer in loaded.modules())


def test_exported_in_training_mode_is_refused(tmp_path: Path) -> None:
    torch.export.save(
        torch.export.export(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), (X,)), tmp_path / "n.pt2"
    )
    with pytest.raises(ModelLoadError, match=r"training mode|refused") as caught:
        load_model(str(tmp_path / "n.pt2"))
    assert "eval()" in caught.value.hint


def test_fault_5_dynamic_shapes_are_refused(tmp_path: Path) -> None:
    dynamic = torch.export.export(Net().eval(), (X,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(dynamic, tmp_path / "n.pt2")
    with pytest.raises(ModelLoadError, match=r"dynamic \(s\d+\)") as caught:
        load_model(str(tmp_path / "n.pt2"))
    assert "static shapes" in caught.value.hint


def test_fault_1_graphs_inside_arguments_are_refused(archive: Path, tmp_path: Path) -> None:
    hidden = {"as_graph": {"name": "g", "graph": {"nodes": [{"target": "torch.os.system"}]}}}
    change = with_json(
        "models/model.json", lambda d: d["graph_module"]["graph"]["nodes"][0]["inputs"][2].update(arg=hidden)
    )
    with pytest.raises(ModelLoadError, match=r"branches \(as_graph\)"):
        load_model(str(rewritten(archive, tmp_path, change)))


def test_another_input_shape_is_refused(archive: Path) -> None:
    with pytest.raises(ModelLoadError, match="exported for"):
        load_model(str(archive), input_shape=(1, 3, 64, 64))


def run_target(records: Records, target: str) -> None:
    with_json("models/model.json", lambda d: d["graph_module"]["graph"]["nodes"][0].update(target=target))(records)


def test_fault_5_operators_outside_aten_are_named(archive: Path, tmp_path: Path) -> None:
    file = rewritten(archive, tmp_path, lambda r: run_target(r, "torch.ops.mylib.conv.default"))
    with pytest.raises(UnsupportedOperatorError) as caught:
        load_model(str(file))
    assert caught.value.details["operator"] == "torch.ops.mylib.conv.default"
    assert caught.value.details["node"] == "conv2d"


@pytest.mark.parametrize("target", ["torch.hub.os.system", "torch.os.system", "_operator.call", "#x", "math.sin"])
def test_fault_1_targets_outside_aten_are_refused(archive: Path, tmp_path: Path, target: str) -> None:
    with pytest.raises(UnsupportedOperatorError):
        load_model(str(rewritten(archive, tmp_path, lambda r: run_target(r, target))))


WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


def test_fault_1_sample_inputs_are_never_unpickled(archive: Path, tmp_path: Path) -> None:
    evil = pickled(Payload(tmp_path / "ran"))
    file = rewritten(archive, tmp_path, lambda r: r.update({"data/sample_inputs/model.pt": evil}))
    load_model(str(file))
    assert not (tmp_path / "ran").exists()


def test_fault_1_pickled_weights_are_refused(archive: Path, tmp_path: Path) -> None:
    def change(records: Records) -> None:
        with_json(WEIGHTS, lambda d: d["config"]["conv.weight"].update(use_pickle=True))(records)
        records["data/weights/weight_0"] = pickled(Payload(tmp_path / "ran"))

    with pytest.raises(ModelLoadError, match=r"conv\.weight.*pickled"):
        load_model(str(rewritten(archive, tmp_path, change)))
    assert not (tmp_path / "ran").exists()


def test_fault_1_opaque_constants_are_refused(archive: Path, tmp_path: Path) -> None:
    def change(records: Records) -> None:
        with_json(CONSTANTS, lambda d: d["config"]["constant"].update(path_name="opaque_obj_0"))(records)
        records["data/constants/opaque_obj_0"] = pickle.dumps(Payload(tmp_path / "ran"))

    with pytest.raises(ModelLoadError, match="pickled object"):
        load_model(str(rewritten(archive, tmp_path, change)))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("record", ["data/weights/model.pt", "data/constants/model.pt", "data/aotinductor/m/x.so"])
def test_fault_1_legacy_and_binary_records_are_ignored(archive: Path, tmp_path: Path, record: str) -> None:
    evil = pickled(Payload(tmp_path / "ran"))
    load_model(str(rewritten(archive, tmp_path, lambda r: r.update({record: evil}))))
    assert not (tmp_path / "ran").exists()


CODE = "__import__('os').mkdir('ran')"


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(guards_code=[CODE]),
        lambda d: d["graph_module"]["graph"]["nodes"][0]["metadata"].update(stack_trace=CODE, torch_fn=CODE),
    ],
)
def test_fault_1_code_in_guards_and_metadata_is_dropped(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    load_model(str(rewritten(archive, tmp_path, with_json("models/model.json", change))))
    assert not (tmp_path / "ran").exists()


def _tree(context: str, kind: str) -> str:
    leaf = {"type": None, "context": None, "children_spec": []}
    return json.dumps([1, {"type": kind, "context": context, "children_spec": [leaf]}])


def _signature(data: Any) -> Any:
    return data["graph_module"]["module_call_graph"][0]["signature"]


ENUM = _tree(json.dumps([{"__enum__": True, "fqn": "evil_module:X", "name": "Y"}]), "builtins.dict")
FACTORY = _tree(
    json.dumps({"default_factory_module": "evil_module", "default_factory_name": "f", "dict_context": []}),
    "collections.defaultdict",
)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: _signature(d).update(out_spec=ENUM),
        lambda d: _signature(d).update(out_spec=FACTORY),
        lambda d: _signature(d).update(forward_arg_names=[f"x={CODE}"]),
        lambda d: d["graph_module"]["graph"]["nodes"][0]["inputs"][1].update(name=f"weight={CODE}, b"),
        lambda d: d["graph_module"]["graph"]["nodes"][0].update(name=f"a=1\n{CODE}"),
        lambda d: d["graph_module"]["graph"]["tensor_values"]["x"]["sizes"].append({"as_expr": {"expr_str": CODE}}),
    ],
)
def test_fault_1_code_in_names_trees_and_shapes_is_refused(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]
) -> None:
    (tmp_path / "evil_module.py").write_text("import os; os.mkdir('ran')\nf = list\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelLoadError, match="refused"):
        load_model(str(rewritten(archive, tmp_path, with_json("models/model.json", change))))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 10, 1000, -30, -1])
def test_fault_4_cut_short(archive: Path, tmp_path: Path, keep: int) -> None:
    file = tmp_path / "cut.pt2"
    file.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(ModelLoadError, match=r"cut\.pt2"):
        load_model(str(file))


@pytest.mark.parametrize("record", ["models/model.json", WEIGHTS, CONSTANTS])
@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"config": 3}', b"[" * 100_000])
def test_fault_4_damaged_records(archive: Path, tmp_path: Path, record: str, content: bytes) -> None:
    with pytest.raises(ModelLoadError, match="refused"):
        load_model(str(rewritten(archive, tmp_path, lambda r: r.update({record: content}))))


def test_fault_4_absurd_dimensions(archive: Path, tmp_path: Path) -> None:
    def change(records: Records) -> None:
        sizes = [{"as_int": 10**6}, {"as_int": 10**6}]
        with_json(WEIGHTS, lambda d: d["config"]["conv.weight"]["tensor_meta"].update(sizes=sizes))(records)
        records["data/weights/weight_0"] = b""

    with pytest.raises(ModelLoadError, match=r"claims the shape \[1000000, 1000000\]"):
        load_model(str(rewritten(archive, tmp_path, change)))


def test_fault_4_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/models/model.json", b" " * 50_000_000)
    assert file.stat().st_size < 100_000
    with pytest.raises(ModelLoadError, match="compressed"):
        load_model(str(file))
