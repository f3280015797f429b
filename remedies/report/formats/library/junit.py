"""JUnit XML for CI systems: one suite per host, one case per judgement."""

from __future__ import annotations

from collections.abc import Iterator

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from remedies.outcomes import HOSTS
from remedies.report.record import HostReport, Judgement, Report, Rollout, answer, is_open

HELP = "JUnit XML: a suite per host, a case per judgement"


def render(report: Report) -> Iterator[str]:
    """Yield the document: a fault that stands fails, what could not be judged is an error."""
    document = JUnitXml("remedy")
    for host in report.hosts:
        document.add_testsuite(_suite(host))
    for missing in report.unreached:
        suite = TestSuite(missing.name)
        case = TestCase("reached", "remedy")
        case.result = [Error(f"not reached: {missing.reason}", "not-reached")]
        suite.add_testcase(case)
        document.add_testsuite(suite)
    text: bytes = document.tostring()  # type: ignore[no-untyped-call]
    yield text.decode() + "\n"


def _suite(host: HostReport) -> TestSuite:
    suite = TestSuite(f"{host.place.name} ({host.place.netns})")
    suite.hostname = host.place.name
    suite.timestamp = host.time.removesuffix("Z")
    for judgement in host.judgements:
        suite.add_testcase(_case(host, judgement))
    if host.rollout is not None:
        suite.add_property("rollout", host.rollout.state)
        suite.add_testcase(_rollout(host.rollout))
    return suite


def _rollout(rollout: Rollout) -> TestCase:
    case = TestCase("rollout", "remedy.rollout", 0)
    if not HOSTS[rollout.state].well:
        case.result = [Failure(f"{rollout.state}: {rollout.message}", rollout.state)]
    return case


def _case(host: HostReport, judgement: Judgement) -> TestCase:
    name = f"{judgement.condition}: {judgement.subject}" if judgement.subject else judgement.title
    case = TestCase(name, f"remedy.{judgement.condition}", 0)
    text = "\n".join([judgement.message, *_lines(host, judgement)])
    said = f"{judgement.verdict}: {judgement.message}"
    if is_open(judgement):
        failure = Failure(said, judgement.outcome)
        failure.text = text
        case.result = [failure]
    elif judgement.outcome == "unknown":
        case.result = [Error(said, "unknown")]
    elif judgement.outcome in ("waived", "not-applicable"):
        case.result = [Skipped(judgement.waived or judgement.message, judgement.outcome)]
    else:
        case.system_out = text
    return case


def _lines(host: HostReport, judgement: Judgement) -> Iterator[str]:
    for item in judgement.evidence:
        note = f" ({item.note})" if item.note else ""
        yield f"{item.source}: {item.key} {item.value}{note}"
    if judgement.follows_from:
        yield f"follows from: {judgement.follows_from}"
    if judgement.policy:
        yield f"policy: {judgement.policy}"
    if judgement.transaction:
        yield f"transaction: {judgement.transaction}, {judgement.history.replace('-', ' ')}"
    deed = answer(host, judgement)
    if deed is not None:
        yield f"by: {deed.actor.user}"
        yield from (f"approved by: {name}" for name in filter(None, [deed.actor.approver]))
        yield from (f"change: {name}" for name in filter(None, [deed.actor.change_id]))
