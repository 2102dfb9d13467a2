"""Stage kernels fitted to what a layer really sees."""
