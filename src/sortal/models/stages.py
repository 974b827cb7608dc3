"""The stages of a backbone, from input to output: which parameters and statistics belong to which.

A stage is what a network's authors call one (`layer4` of a ResNet, `blocks.6` of an EfficientNet, one block of a
transformer); what comes before the first is the stage `stem`. timm states the grouping for each of its families; for
other backbones it is read from the tree of modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

Stages = dict[str, tuple[str, ...]]
"""Stage name -> full names of its parameters and buffers; in the order of the data."""


def find_stages(backbone: nn.Module) -> Stages:
    """The stages of a backbone. Every parameter and every buffer is in exactly one."""
    body = getattr(backbone, "body", None)
    matcher = getattr(body, "group_matcher", None)
    groups = _matched(body, matcher) if body is not None and callable(matcher) else _by_tree(backbone)
    tensors = dict(_tensors(backbone))
    return _named(_with_norms_before(groups, tensors))


def frozen_modules(backbone: nn.Module, frozen: set[str]) -> list[str]:
    """The outermost modules all of whose parameters and buffers are in `frozen`; those without any are left out."""
    found: list[str] = []

    def visit(path: str, module: nn.Module) -> None:
        names = {_join(path, name) for name, _ in _tensors(module)}
        if names and names <= frozen:
            found.append(path)
        elif names & frozen:
            for name, child in module.named_children():
                visit(_join(path, name), child)

    visit("", backbone)
    return found


def _matched(body: Any, matcher: Callable[..., Any]) -> list[list[str]]:
    """timm's own grouping (`group_matcher`) of a body, with the prefix that its names have in the backbone."""
    from timm.models._manipulate import group_with_matcher  # group_parameters, its public form, leaves out buffers

    groups: Mapping[int, list[str]] = group_with_matcher(_tensors(body), matcher(coarse=True))
    return [[f"body.{name}" for name in groups[number]] for number in sorted(groups)]


def _by_tree(backbone: nn.Module) -> list[list[str]]:
    """One group for each child that has parameters; sequences count by their members; loose parameters come first."""
    loose = [name for name, _ in backbone.named_parameters(recurse=False)]
    loose += [name for name, _ in backbone.named_buffers(recurse=False)]
    groups = [loose] if loose else []
    for name, child in backbone.named_children():
        is_sequence = type(child) in (nn.Sequential, nn.ModuleList)  # a subclass is a block of its own
        parts = [(_join(name, part), one) for part, one in child.named_children()] if is_sequence else [(name, child)]
        groups += [[_join(path, inner) for inner, _ in _tensors(module)] for path, module in parts]
    return [group for group in groups if group]


def _with_norms_before(groups: list[list[str]], tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """A group of vectors alone (a last norm) is no stage; it joins the one before."""
    joined: list[list[str]] = []
    for group in groups:
        if joined and all(tensors[name].ndim <= 1 for name in group):
            joined[-1] = joined[-1] + group
        else:
            joined.append(group)
    return joined


def _named(groups: list[list[str]]) -> Stages:
    """`stem` for the first group, and for the others the shortest path of modules that no other group shares."""
    stages: Stages = {}
    for group in groups:
        others = [name for other in groups if other is not group for name in other]
        stages["stem" if not stages else _own_path(group[0], others)] = tuple(group)
    return stages


def _own_path(name: str, others: list[str]) -> str:
    """The shortest beginning of a parameter's path that no other has, as the network's authors write it."""
    parts = name.split(".")
    for length in range(1, len(parts)):
        path = ".".join(parts[:length])
        if path != "body" and not any(other.startswith(f"{path}.") for other in others):
            return path.removeprefix("body.")
    return name.removeprefix("body.")


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
