"""What ``iam.tf`` grants, and the calls that need it.

Contents of roles come from ``iam_roles.json``, permissions of calls from ``gcp/map.json`` of the same data set, else
from Google's page "Vertex AI access control with IAM".
"""

import dataclasses
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.pipeline.vertex.terraform_files import instances, resources

ROLES: dict[str, list[str]] = json.loads(Path(__file__).with_name("iam_roles.json").read_text())["roles"]

PIPELINE, BUILD = "pipeline", "build"
ANYWHERE, IMAGES, REQUESTS = "project", "images", "requests"

Call = tuple[str, str, str, list[str]]
"""Account, place, what it does there, and the permissions that this needs."""


@dataclasses.dataclass(frozen=True)
class Grant:
    """Permissions of an account in a place. The project contains all places, a bucket its folders."""

    account: str
    place: str
    role: str
    permissions: frozenset[str]


def _quoted(reference: str) -> str:
    return re.search(r'\["(\w+)"\]', reference)[1]


def _place(kind: str, body: dict[str, Any]) -> str:
    if kind == "google_project_iam_member":
        return ANYWHERE
    if kind == "google_artifact_registry_repository_iam_member":
        return IMAGES
    if kind == "google_bigquery_dataset_iam_member":
        return REQUESTS
    if kind == "google_service_account_iam_member":
        return f"ser-{_quoted(body['service_account_id'])}"
    assert kind == "google_storage_bucket_iam_member", f"{kind} is not in this table"
    folders = [re.search(r"/objects/([^\"\\]*)", part["expression"])[1] for part in body.get("condition", [])]
    return "/".join([_quoted(body["bucket"]), *folders])


def _grant(kind: str, body: dict[str, Any]) -> Grant:
    (account,) = re.findall(r"local\.(\w+)_member", body["member"])
    custom = re.search(r"google_project_iam_custom_role\.(\w+)\.id", body["role"])
    if custom:
        permissions = resources()["google_project_iam_custom_role", custom[1]]["permissions"]
    else:
        permissions = ROLES[body["role"]]
    return Grant(account, _place(kind, body), body["role"], frozenset(permissions))


def granted() -> list[Grant]:
    """Return the grants of ``iam.tf``; the page's account is not one of runs and builds."""
    members = instances(r"google_\w+_iam_member")
    return [_grant(kind, body) for kind, body in members if body["member"].startswith("${local.")]


def missing(grants: Iterable[Grant], calls: Iterable[Call]) -> list[str]:
    """Return calls whose account lacks a permission, with the permission."""
    return [
        f"{account} in {place}: {what}: {permission}"
        for account, place, what, permissions in calls
        for permission in permissions
        if not any(
            grant.account == account
            and permission in grant.permissions
            and (grant.place == ANYWHERE or place.startswith(grant.place))
            for grant in grants
        )
    ]
