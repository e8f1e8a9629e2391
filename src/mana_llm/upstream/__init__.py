"""The HTTP/1.1 client: pooled connections, limits, TLS and proxies. `client.Upstream` is its face."""
