"""What a search chooses and finds: plans, candidates, the Pareto front, the result of a run."""
