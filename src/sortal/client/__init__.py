"""A client of `sortal serve`: the same `Predictions` as everywhere, over HTTP.

`client` is what people call, `talk` the requests and when they are repeated, `payload` images as bytes of requests,
`replies` what comes back. Needs the extra `client` only.
"""
