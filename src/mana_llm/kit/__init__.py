"""Small pure machines: no sockets, no clocks; an instant comes in as `now_s`."""
