"""Studies in a database, in Optuna's own schema, shared by any number of processes."""
