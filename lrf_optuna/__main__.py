"""`python -m lrf_optuna`."""

import sys

try:
    from lrf_optuna.cli.app import main
except KeyboardInterrupt:  # while the modules are loaded
    sys.exit(130)

main()
