"""What stands between the network and the classifier: keys and what each may ask, rates, TLS, and URLs fetched safely.

`keys` is the file, `ring` what a server makes of it, `access` the table of every route and who may ask it; `gate` holds
the table over HTTP and `rpc` over gRPC; `tls` has certificates that are exchanged without a restart; `fetch` fetches
images from the network without reaching into one's own.
"""
