"""A board has no PyTorch. Where there is one, TVM imports it, twice for each server that a test starts."""

raise ModuleNotFoundError("No module named 'torch'", name="torch")
