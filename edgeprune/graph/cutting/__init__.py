"""From a traced network to kernels: what a kernel computes and what is fused into it is decided here, once."""
