"""The Open Inference Protocol, version 2, over HTTP: what Triton, KServe and their clients speak.

https://github.com/kserve/open-inference-protocol, with Triton's extensions for binary tensors and classification.
`tensors` reads and writes bodies, `routes` answers. Clients send pixels of the network's size; files go to `/predict`.
"""
