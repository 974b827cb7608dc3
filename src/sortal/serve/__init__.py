"""A classifier behind HTTP: `app` speaks it, `batcher` joins requests, `pool` keeps the processes that answer.

The front process decodes nothing and loads no network. Bytes of images go to worker processes, which can be killed when
they hang, and answers come back. `story` puts it together; `settings` holds the limits.
"""
