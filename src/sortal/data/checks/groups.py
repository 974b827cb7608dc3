"""Groups: keys that file names, folders, columns and EXIF offer, for a person to choose from."""

from __future__ import annotations

from dataclasses import asdict

from sortal.core.report import Finding, Table
from sortal.data.checks.material import Material, Outcome
from sortal.data.groups import Proposal, propose_groups
from sortal.data.table import finding


def check(material: Material) -> Outcome:
    """Finding `group_proposed` where the table has no groups and something would serve; table `groups`, body
    `proposals` with what to paste into `--group`."""
    proposals = propose_groups(material.table, material.survey)
    grouped = material.table.frame["group"].null_count() < len(material.table)
    return Outcome(
        findings=() if grouped else tuple(_finding(proposal) for proposal in proposals[:1] if not proposal.useless),
        tables={"groups": _table(proposals)} if proposals else {},
        body={"grouped": grouped, "proposals": [asdict(proposal) for proposal in proposals]},
    )


def _finding(proposal: Proposal) -> Finding:
    message = f"{proposal.key} would make {proposal.groups:,} groups ({proposal.example})"
    hint = f"if images of one such group belong together: sortal split --group '{proposal.pattern}'"
    return finding("group_proposed", "info", message, (), hint)


def _table(proposals: tuple[Proposal, ...]) -> Table:
    rows = tuple(
        (one.key, one.pattern, one.groups, one.matched, one.largest, one.single_class, one.example, one.useless or "")
        for one in proposals
    )
    columns = ("key", "--group", "groups", "matched", "largest", "of one class", "example", "useless because")
    return Table(columns=columns, rows=rows)
