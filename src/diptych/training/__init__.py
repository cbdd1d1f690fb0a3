"""The one training loop (`loop.py`) and its parts; a model is only an `nn.Module` with `forward(batch) -> Losses`."""
