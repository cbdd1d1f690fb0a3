"""Pure functions from tensors to a loss. No model, no optimizer, no state."""
