"""Validates objects against the schemas of Kubernetes, strictly, for 1.32 and all newer versions.

Reads a JSON list of objects from standard input and writes a report to standard output.
"""

import json
import sys

import kubernetes_validate

versions = [version for version in dict.fromkeys(
    kubernetes_validate.utils.major_minor(version.removesuffix("-strict"))
    for version in kubernetes_validate.utils.all_versions())
    if tuple(map(int, version.split("."))) >= (1, 32)]

# The same object comes in many combinations.
objects = {json.dumps(found, sort_keys=True): found for found in json.load(sys.stdin)}.values()
errors, unknown, validated = [], set(), 0
for found in objects:
    for version in versions:
        try:
            kubernetes_validate.validate(found, version, strict=True)
            validated += 1
        except kubernetes_validate.SchemaNotFoundError:
            unknown.add(found["kind"])
        except kubernetes_validate.ValidationError as error:
            name = f"{found['kind']}/{found['metadata']['name']}"
            errors.append(f"{version}: {name}: {error.message}")

report = {"versions": versions, "validated": validated, "errors": errors, "unknown": sorted(unknown)}
json.dump(report, sys.stdout)
