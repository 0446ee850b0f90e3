"""Names that configuration, tables and figures share."""

GUIDED_SUFFIX = "-ivg"
"""A method's name with this ending is the same method with instruction-vector guidance."""

GENERATED = "generated"
"""The ``scorer`` of answers that are generated, not ranked."""
