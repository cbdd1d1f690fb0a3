"""Any causal language model of transformers behind the same Protocol; the wrapped model keeps its own names."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.blocks import masks
from diptych.towers.huggingface import model_from_config
from diptych.types import InputError


class HFCache:
    """A cache of transformers as `outputs.Cache`."""

    def __init__(self) -> None:
        from transformers import DynamicCache

        self.kept = DynamicCache()

    @property
    def length(self) -> int:
        """Positions that are kept."""
        return int(self.kept.get_seq_length())

    @torch.no_grad()
    def select(self, rows: Int[Tensor, "N"]) -> None:
        """Go on with these rows of the batch, in this order, repeats allowed."""
        self.kept.reorder_cache(rows)


class HFLanguage(nn.Module):
    """See `outputs.LanguageModel`. The whole model, with its head, is held as `.model`.

    Blocks between the layers are called by hooks on these, so that no weight is renamed and every architecture is fit.

    Args:
        config: the content of its `config.json`.
        model: one that is there already; built from `config`, with random weights, if None.
    """

    def __init__(self, config: dict[str, Any], model: Any = None) -> None:
        super().__init__()
        built = model or model_from_config(config, pooler=True, source="HFLanguageConfig", causal=True)
        self.model = built
        self.width: int = self.model.get_input_embeddings().embedding_dim
        self.vocab_size: int = self.model.get_input_embeddings().num_embeddings
        self.context_length: int = getattr(self.model.config, "max_position_embeddings", 1 << 20)

    @property
    def layers(self) -> nn.ModuleList:
        """The model's own layers."""
        count = self.model.config.num_hidden_layers
        for module in self.model.modules():
            if isinstance(module, nn.ModuleList) and len(module) == count:
                return module
        raise InputError(f"{type(self.model).__name__}: expected a list of {count} layers, found none")

    def embed(self, tokens: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        """The tokens' embeddings, without positions."""
        embedded: Tensor = self.model.get_input_embeddings()(tokens)
        return embedded

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        *,
        mask: Bool[Tensor, "#B 1 #S M"] | None = None,
        positions: Int[Tensor, "#B S"] | None = None,
        cache: HFCache | None = None,
        before: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Float[Tensor, "B S D"]:
        """See `outputs.LanguageModel`."""
        start = cache.length if cache is not None else 0
        batch, length = x.shape[:2]
        if mask is None:
            mask = masks.causal(start + length, x.device)[:, :, start:]
        # transformers takes a mask of four dimensions as it is: 0 where a position may look, the least number elsewhere
        barrier = torch.zeros(mask.shape, dtype=x.dtype, device=x.device)
        barrier = barrier.masked_fill(~mask, torch.finfo(x.dtype).min).expand(batch, 1, length, -1)
        if positions is None:
            positions = torch.arange(start, start + length, device=x.device)[None]
        with self._between(before):
            output = self.model.base_model(
                inputs_embeds=x,
                attention_mask=barrier,
                position_ids=positions.expand(batch, -1),
                past_key_values=None if cache is None else cache.kept,
                use_cache=cache is not None,
            )
        hidden: Tensor = output.last_hidden_state
        return hidden

    @contextmanager
    def _between(self, before: Callable[[int, Tensor], Tensor] | None) -> Iterator[None]:
        if before is None:
            yield
            return

        def hook(number: int) -> Callable[..., Any]:
            def call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                if args:
                    return (before(number, args[0]), *args[1:]), kwargs
                return args, {**kwargs, "hidden_states": before(number, kwargs["hidden_states"])}

            return call

        handles = [layer.register_forward_pre_hook(hook(i), with_kwargs=True) for i, layer in enumerate(self.layers)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def head_weight(self) -> Float[Tensor, "V D"]:
        """The matrix that makes logits of hidden states."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight

    def logits(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Scores of the next token before the softmax."""
        scores: Tensor = self.model.get_output_embeddings()(hidden)
        return scores

    def new_cache(self, capacity: int = 64) -> HFCache:
        """An empty cache, which grows as it needs."""
        return HFCache()
