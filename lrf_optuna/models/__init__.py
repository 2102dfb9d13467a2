"""All that knows Keras: loading, layer kinds, forward passes with other kernels, surgery."""
