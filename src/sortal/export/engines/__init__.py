"""Engines that need PyTorch, which the run side never imports; `runtime.engines.ENGINES` names them as texts."""
