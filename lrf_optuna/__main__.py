"""`python -m lrf_optuna`."""

from lrf_optuna.cli.app import main

main()
