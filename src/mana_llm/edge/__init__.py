"""HTTP in: the server's protocol, who may call, and one class per route."""
