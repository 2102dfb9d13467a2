"""All that knows Keras: loading, layer kinds, forward passes with other kernels, surgery."""

from lrf_optuna.models.backend import check_backend

check_backend()
