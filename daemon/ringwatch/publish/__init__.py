"""From results to the world: ZeroMQ, HDF5, Prometheus and the page; each publisher fails alone."""
