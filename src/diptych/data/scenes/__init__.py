"""A generated world with exact truth: scenes of simple things, their pictures, and all that can be said of them."""
