"""The report of an experiment: one HTML file with tables, figures, what they show in numbers, and
provenance.
"""

from anamnesis.core.extras import explained

try:
    from anamnesis.report.builder import Picture, Section, Table, build_report
    from anamnesis.report.experiment import experiment_sections
    from anamnesis.report.results import ExperimentResults
except ModuleNotFoundError as error:
    raise explained(error) from error

__all__ = ["ExperimentResults", "Picture", "Section", "Table", "build_report", "experiment_sections"]
