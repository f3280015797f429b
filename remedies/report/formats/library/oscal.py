"""OSCAL assessment results as JSON, with the stub of their assessment plan inside."""

from __future__ import annotations

from collections.abc import Iterator

from trestle.oscal.assessment_results import AssessmentResults

from remedies.report.oscal import results
from remedies.report.record import Report

HELP = "OSCAL assessment results, with a stub of their plan"


def render(report: Report) -> Iterator[str]:
    """Yield the document, checked against the model by compliance-trestle."""
    yield AssessmentResults(**results(report)).oscal_serialize_json(pretty=True) + "\n"
