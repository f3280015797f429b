"""The stub of an OSCAL assessment plan that assessment results refer to, as a file of its own."""

from __future__ import annotations

from collections.abc import Iterator

from trestle.oscal.assessment_plan import AssessmentPlan

from remedies.report.oscal import plan
from remedies.report.record import Report

HELP = "the stub assessment plan that the OSCAL results refer to"


def render(report: Report) -> Iterator[str]:
    """Yield the document, checked against the model by compliance-trestle."""
    yield AssessmentPlan(**plan(report)).oscal_serialize_json(pretty=True) + "\n"
