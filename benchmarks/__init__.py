"""What a request costs: the gateway measured beside nginx, on one core, from the processes' own accounting."""
