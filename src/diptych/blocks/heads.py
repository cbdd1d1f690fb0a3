"""From a tower's width to the shared space."""

from jaxtyping import Float
from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """A bias-free linear map (CLIP), or an MLP with one GELU layer of `hidden` units where `hidden` is given.

    The last matrix starts with standard deviation (its inputs)^-0.5, as in CLIP's code.
    """

    def __init__(self, width: int, output_width: int, *, hidden: int | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, hidden), nn.GELU()) if hidden else nn.Identity()
        self.projection = nn.Linear(hidden or width, output_width, bias=False)
        nn.init.normal_(self.projection.weight, std=(hidden or width) ** -0.5)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D2"]:
        projected: Tensor = self.projection(self.body(x))
        return projected
