"""The numbers: OpenCL kernels, their numpy specification, geometry and exact sums. Knows arrays, never messages."""
