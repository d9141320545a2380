"""Networks in other libraries: hebbcore.bridges.torch and hebbcore.bridges.jax, each of which needs its library."""
