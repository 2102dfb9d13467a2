"""The search for the Pareto front on Optuna's NSGA-II."""
