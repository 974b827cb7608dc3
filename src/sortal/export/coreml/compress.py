"""Weights of an ML program to 8 bits: symmetric, by output channel, in the layers that lead to the feature map."""

from __future__ import annotations

from typing import Any

from sortal.export.coreml.convert import LAYERS, leading_to
from sortal.export.coreml.reading import program_of, stored_weight

_LEAST_WEIGHTS = 2048
"""Below that a layer saves less than its scales and its rounding cost."""
_PLACE = 4
"""Of the feature map among the outputs of a converted model: label, probabilities, logits, embedding, feature map."""


def to_int8(model: Any) -> Any:
    """A model whose layers have 8-bit weights; `model` is as converted, its outputs not yet named."""
    from coremltools.optimize import coreml

    main = program_of(model.get_spec(), model.weights_dir)
    leading = leading_to(main.outputs[_PLACE])
    rounded = coreml.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=_LEAST_WEIGHTS
    )
    chosen = {
        weight.op.name: rounded
        for operation in main.operations
        if operation.op_type in LAYERS and operation.name in leading
        if (weight := stored_weight(operation)) is not None
    }
    return coreml.linear_quantize_weights(model, coreml.OptimizationConfig(global_config=None, op_name_configs=chosen))
