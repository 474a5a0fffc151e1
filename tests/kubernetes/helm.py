"""Installs the chart with Helm, into a cluster that only keeps Helm's record of it.

Reads a JSON object {name: [values, object...]} from standard input, where the objects are in the
cluster already. Writes one {name: result} to standard output, where a result is
{"objects": [...], "hooks": [...], "notes": "..."} or {"error": "..."}.
With the argument "lint", it lints the chart instead and writes what Helm says.
"""

import asyncio
import base64
import concurrent.futures
import gzip
import http.server
import json
import pathlib
import re
import sys
import threading

import helm_sdkpy
import yaml

CHART = str(pathlib.Path(__file__).parents[2] / "helm")
RELEASE = NAMESPACE = "microservices"

# The kinds that the chart may create: group and version, plural, kind.
KINDS = [
    ("v1", "configmaps", "ConfigMap"),
    ("v1", "namespaces", "Namespace"),
    ("v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
    ("v1", "secrets", "Secret"),
    ("v1", "services", "Service"),
    ("apps/v1", "deployments", "Deployment"),
    ("apps/v1", "statefulsets", "StatefulSet"),
    ("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    ("batch/v1", "jobs", "Job"),
    ("gateway.networking.k8s.io/v1", "httproutes", "HTTPRoute"),
    ("monitoring.coreos.com/v1", "servicemonitors", "ServiceMonitor"),
    ("networking.k8s.io/v1", "ingresses", "Ingress"),
    ("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy"),
    ("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget"),
]


class Cluster(http.server.ThreadingHTTPServer):
    """The API of a cluster with these objects and no others."""

    daemon_threads = True

    def __init__(self, existing=()):
        super().__init__(("127.0.0.1", 0), Handler)
        self.release = None
        self.existing = {path(found): owned(found) for found in existing}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def kubeconfig(self):
        """How to reach it."""
        url = f"http://127.0.0.1:{self.server_port}"
        return yaml.safe_dump({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}],
            "current-context": "c",
        })


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as far as an installation asks."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.split("?")[0].strip("/")
        if path in self.server.existing:
            return self.answer(200, self.server.existing[path])
        parts = path.split("/")
        if path == "version":
            self.answer(200, {"major": "1", "minor": "35", "gitVersion": "v1.35.0"})
        elif path == "api":
            self.answer(200, {"kind": "APIVersions", "versions": ["v1"]})
        elif path == "apis":
            self.answer(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups()})
        elif path == "api/v1" or (parts[0] == "apis" and len(parts) == 3):
            self.answer(200, resources(path.removeprefix("apis/").removeprefix("api/")))
        elif parts[-1] == "secrets":
            self.answer(200, {"kind": "SecretList", "apiVersion": "v1", "items": []})
        else:
            self.answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure",
                              "reason": "NotFound", "code": 404})

    def do_POST(self):
        self.keep(201)

    def do_PUT(self):
        self.keep(200)

    def do_PATCH(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, self.server.existing[self.path.split("?")[0].strip("/")])

    def keep(self, status):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # Helm's own record of the release, the one thing that comes as protobuf: in it, the
        # compressed JSON in base64.
        if body.startswith(b"k8s\0"):
            packed = re.search(rb"H4sI[A-Za-z0-9+/=]+", body).group()
            self.server.release = json.loads(gzip.decompress(base64.b64decode(packed)))
        self.send(status, self.headers["Content-Type"], body)

    def answer(self, status, document):
        self.send(status, "application/json", json.dumps(document).encode())

    def send(self, status, content_type, text):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def path(found):
    """Where the API has this object."""
    version, plural = next((version, plural) for version, plural, kind in KINDS
                           if kind == found["kind"])
    api = "apis" if "/" in version else "api"
    return f"{api}/{version}/namespaces/{NAMESPACE}/{plural}/{found['metadata']['name']}"


def owned(found):
    """The object as one of this release."""
    version = next(version for version, _, kind in KINDS if kind == found["kind"])
    found["metadata"].update({
        "namespace": NAMESPACE,
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"meta.helm.sh/release-name": RELEASE,
                        "meta.helm.sh/release-namespace": NAMESPACE},
    })
    return {"apiVersion": version} | found


def groups():
    found = {}
    for version, _, _ in KINDS:
        group, _, number = version.rpartition("/")
        if group:
            found[group] = {"groupVersion": version, "version": number}
    return [{"name": group, "versions": [version], "preferredVersion": version}
            for group, version in found.items()]


def resources(version):
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [
        {"name": plural, "singularName": kind.lower(), "kind": kind,
         "namespaced": kind != "Namespace", "verbs": ["create", "get", "list", "update"]}
        for of_version, plural, kind in KINDS if of_version == version]}


def install(case):
    values, *existing = case
    cluster = Cluster(existing)
    configuration = helm_sdkpy.Configuration(NAMESPACE, kubeconfig=cluster.kubeconfig())
    action = helm_sdkpy.Install(configuration)
    try:
        asyncio.run(action.run(RELEASE, CHART, values, wait=False))
    except helm_sdkpy.HelmError as error:
        return {"error": str(error)}
    finally:
        cluster.shutdown()
    release = cluster.release
    objects = [found for found in yaml.safe_load_all(release["manifest"]) if found]
    hooks = [yaml.safe_load(hook["manifest"]) for hook in release.get("hooks", [])]
    return {"objects": objects, "hooks": hooks, "notes": release["info"]["notes"]}


def main():
    if sys.argv[1:] == ["lint"]:
        configuration = helm_sdkpy.Configuration(NAMESPACE, kubeconfig=Cluster().kubeconfig())
        result = asyncio.run(helm_sdkpy.Lint(configuration).run(CHART))
    else:
        # Helm waits between its requests to a cluster: many installations wait together.
        cases = json.load(sys.stdin)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            result = dict(zip(cases, pool.map(install, cases.values())))
    json.dump(result, sys.stdout)


main()
