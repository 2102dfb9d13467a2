"""`python -m lrf_optuna`."""

from lrf_optuna.cli import main

main()
