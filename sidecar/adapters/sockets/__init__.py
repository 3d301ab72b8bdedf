"""Where others connect to: the control socket, and the pages of the metrics port."""
