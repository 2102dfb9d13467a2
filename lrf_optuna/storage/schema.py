"""Optuna's tables, as far as trials stand in them, and the version of the schema that they are of."""

from __future__ import annotations

from optuna.trial import TrialState
from sqlalchemy import DateTime, Enum, Float, Integer, Text, column, table

SCHEMA = "v3.2.0.a"
"""The Alembic revision of these tables. `version_info.schema_version` has been 12 since long before it."""
TEXT, NUMBER, REAL = Text(), Integer(), Float(53)
VALUE_TYPE = Enum("FINITE", "INF_POS", "INF_NEG", name="trialvaluetype")
STEP_TYPE = Enum("FINITE", "INF_POS", "INF_NEG", "NAN", name="trialintermediatevaluetype")
STUDIES = table("studies", column("study_id", NUMBER))
STUDY_USER = table("study_user_attributes", column("study_id", NUMBER), column("key", TEXT), column("value_json", TEXT))
TRIALS = table(
    "trials",
    column("trial_id", NUMBER),
    column("number", NUMBER),
    column("study_id", NUMBER),
    column("state", Enum(TrialState)),
    column("datetime_start", DateTime()),
    column("datetime_complete", DateTime()),
)
PARAMS = table(
    "trial_params",
    column("param_id", NUMBER),
    column("trial_id", NUMBER),
    column("param_name", TEXT),
    column("param_value", REAL),
    column("distribution_json", TEXT),
)
VALUES = table(
    "trial_values",
    column("trial_id", NUMBER),
    column("objective", NUMBER),
    column("value", REAL),
    column("value_type", VALUE_TYPE),
)
STEPS = table(
    "trial_intermediate_values",
    column("trial_id", NUMBER),
    column("step", NUMBER),
    column("intermediate_value", REAL),
    column("intermediate_value_type", STEP_TYPE),
)
USER, SYSTEM = (
    table(
        name,
        column(key, NUMBER),
        column("trial_id", NUMBER),
        column("key", TEXT),
        column("value_json", TEXT),
    )
    for name, key in (
        ("trial_user_attributes", "trial_user_attribute_id"),
        ("trial_system_attributes", "trial_system_attribute_id"),
    )
)
