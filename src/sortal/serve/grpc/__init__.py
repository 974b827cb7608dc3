"""gRPC beside HTTP, in the same process: the Open Inference Protocol, our own `Classify`, and health.

`protos/` has the services as clients know them, `messages` makes classes of them, `calls` runs every call, and
`inference`, `classifier` and `health` say what is answered; `server` opens the port. Only `sortal serve` imports it:
after `import grpc` a process must not fork, and workers are started by exec.
"""
