//! Values to install the chart with.

use serde_json::{Value, json};

/// Each with the combination of components that is the same.
pub(super) fn same() -> Vec<(&'static str, Value)> {
    let on = json!({ "enabled": true });
    let both = |value: Value| json!({ "helloServer": value, "hashServer": value });
    vec![
        ("file", json!({})),
        ("redis", json!({ "store": "redis" })),
        ("postgres", json!({ "store": "postgres" })),
        ("etcd", json!({ "store": "etcd" })),
        (
            "etcd-single",
            json!({ "store": "etcd", "etcd": { "members": 1 } }),
        ),
        ("file + autoscaling", both(json!({ "autoscaling": on }))),
        ("file + network-policy", json!({ "networkPolicies": on })),
        ("file + ingress", json!({ "ingress": on })),
        (
            "file + ingress + tls",
            json!({ "ingress": { "enabled": true, "tlsSecret": "microservices-tls" } }),
        ),
        ("file + gateway", json!({ "gateway": on })),
        ("file + monitoring", json!({ "monitoring": on })),
        ("file + checker", json!({})),
    ]
}

/// Others, each of which turns some knobs.
pub(super) fn others() -> Vec<(&'static str, Value)> {
    vec![
        (
            "images of a registry",
            json!({ "images": { "registry": "localhost:5000", "tag": "0.2.0", "pullSecrets": ["login"] } }),
        ),
        (
            "an image of its own",
            json!({ "hashServer": { "image": "localhost:5000/me/hash:1" },
                "checker": { "image": "checker:2" } }),
        ),
        (
            "labels and annotations",
            json!({ "commonLabels": { "team": "a" }, "podAnnotations": { "note": "b" } }),
        ),
        (
            "no budgets",
            json!({ "podDisruptionBudgets": { "enabled": false } }),
        ),
        (
            "an external store",
            json!({ "store": "external", "externalStore": { "existingSecret": "login", "settings": {
                "STORE": "postgres", "PGHOST": "db.example.com", "PGSSLMODE": "require",
                "PGPASSWORD_FILE": "/run/secrets/store/password" } } }),
        ),
        (
            "a Secret and a class of storage of one's own",
            json!({ "store": "redis", "redis": { "existingSecret": "mine",
                "storage": { "size": "1Gi", "className": "fast" } } }),
        ),
        (
            "settings",
            json!({ "helloServer": { "settings": { "MESSAGE": "1e6: yes", "DRAIN_SECONDS": 0 } },
                "persistenceServer": { "settings": { "SEQUENCE_FLOOR": 9007199254740991_u64,
                "DRAIN_SECONDS": 1, "SEQUENCE": "orders" } } }),
        ),
        (
            "switches",
            json!({ "helloServer": { "settings": { "ACCESS_LOG": false } },
                "hashServer": { "settings": { "ACCESS_LOG": 0 } },
                "store": "external", "externalStore": { "settings": { "STORE": "redis",
                    "REDIS_HOST": "a", "REDIS_TLS": true, "REDIS_REQUIRE_DURABLE": "Yes" } } }),
        ),
        (
            "everything at once",
            json!({ "store": "etcd", "networkPolicies": { "enabled": true },
                "helloServer": { "replicas": 3, "autoscaling": { "enabled": true } },
                "ingress": { "enabled": true, "className": "nginx", "annotations": { "a": "b" },
                    "hosts": { "hello": "a.example.org", "hash": "b.example.org" } },
                "gateway": { "enabled": true, "parentRefs": [{ "name": "g", "namespace": "infra" }] },
                "monitoring": { "enabled": true, "labels": { "release": "prometheus" } } }),
        ),
    ]
}

/// Nonsense, and what is said of it.
pub(super) fn bad() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({ "store": "mongo" }),
            "'/store': value must be one of 'file', 'redis'",
        ),
        (
            json!({ "stroe": "redis" }),
            "additional properties 'stroe' not allowed",
        ),
        (
            json!({ "hashServer": { "replicas": -1 } }),
            "'/hashServer/replicas': minimum: got -1, want 1",
        ),
        (
            json!({ "helloServer": { "replicas": "two" } }),
            "'/helloServer/replicas': got string, want integer",
        ),
        (
            json!({ "helloServer": { "settings": { "MESAGE": "x" } } }),
            "'/helloServer/settings': additional properties 'MESAGE' not allowed",
        ),
        (
            json!({ "hashServer": { "settings": { "ACCESS_LOG": "maybe" } } }),
            "'/hashServer/settings/ACCESS_LOG': 'maybe' does not match pattern '^(?i:on|off|",
        ),
        (
            json!({ "hashServer": { "settings": { "ACCESS_LOG": 2 } } }),
            "'/hashServer/settings/ACCESS_LOG': maximum: got 2, want 1",
        ),
        (
            // What YAML makes of yes without quotes.
            json!({ "helloServer": { "settings": { "MESSAGE": true } } }),
            "'/helloServer/settings/MESSAGE': got boolean",
        ),
        (
            json!({ "persistenceServer": { "replicas": 3 } }),
            "persistenceServer.replicas is 3, and store is file",
        ),
        (
            json!({ "externalStore": { "settings": { "STORE": "redis" } } }),
            "externalStore.settings is given, and store is file",
        ),
        (
            json!({ "store": "redis", "postgres": { "existingSecret": "mine" } }),
            "postgres.existingSecret is given, and store is redis",
        ),
        (
            json!({ "store": "postgres", "persistenceServer": { "settings": { "REDIS_DB": 1 } } }),
            "REDIS_DB is set, and the store is postgres",
        ),
        (
            json!({ "store": "external",
                "externalStore": { "settings": { "STORE": "redis", "PGHOST": "db" } } }),
            "PGHOST is set, and the store is redis",
        ),
        (
            json!({ "hashServer": { "settings": { "PORT": 80 } } }),
            "additional properties 'PORT' not allowed",
        ),
        (
            json!({ "etcd": { "members": 2 } }),
            "'/etcd/members': value must be one of 1, 3",
        ),
        (
            json!({ "images": { "tag": "latest" } }),
            "images.tag is latest",
        ),
        (
            json!({ "images": { "pullPolicy": "Sometimes" } }),
            "'/images/pullPolicy': value must be one of",
        ),
        (
            json!({ "redis": { "image": "redis" } }),
            "'/redis/image': 'redis' does not match pattern",
        ),
        (
            json!({ "redis": { "image": "redis:latest" } }),
            "redis.image ends in :latest",
        ),
        (
            json!({ "store": "external" }),
            "externalStore.settings must say which one in STORE",
        ),
        (
            json!({ "externalStore": { "settings": { "PGPASSWORD": "x" } } }),
            "additional properties 'PGPASSWORD' not allowed",
        ),
        (
            json!({ "hashServer": { "settings": { "REQUEST_TIMEOUT_MS": 60000 } } }),
            "requests would be cut off when a pod stops",
        ),
        (
            json!({ "hashServer": { "autoscaling": { "minReplicas": 9 } } }),
            "minReplicas (9) is more than maxReplicas (5)",
        ),
        (
            json!({ "commonLabels": { "app.kubernetes.io/name": "x" } }),
            "the chart sets it itself",
        ),
        (
            json!({ "ingress": { "hosts": { "hello": "Not A Host" } } }),
            "'/ingress/hosts/hello'",
        ),
        (
            json!({ "hashServer": { "resources": { "limits": { "memory": "lots" } } } }),
            "'/hashServer/resources/limits/memory': 'lots' does not match",
        ),
    ]
}

/// What is in the cluster, values, and what is said of them, if they are refused.
pub(super) fn with_numbers() -> Vec<(Vec<Value>, Value, Option<&'static str>)> {
    let running = |store: &str, data: Value| {
        let selector = json!({ "store": store });
        vec![
            json!({ "kind": "ConfigMap", "metadata": { "name": "persistence-server" }, "data": data }),
            json!({ "kind": "Service", "metadata": { "name": "persistence-server" },
                "spec": { "selector": selector } }),
        ]
    };
    let claim = |of: &str| {
        let name = format!("data-{of}-0");
        vec![json!({ "kind": "PersistentVolumeClaim", "metadata": { "name": name } })]
    };
    let on = |store: &str, floor: u64| {
        let settings = json!({ "SEQUENCE_FLOOR": floor });
        json!({ "store": store, "persistenceServer": { "settings": settings } })
    };
    let elsewhere = json!({ "store": "external",
        "externalStore": { "settings": { "STORE": "redis", "REDIS_HOST": "b" } } });
    let file = json!({ "STORE": "file" });
    let moved = json!({ "STORE": "redis", "REDIS_HOST": "redis", "SEQUENCE_FLOOR": "1000" });
    let external = json!({ "STORE": "redis", "REDIS_HOST": "a" });
    let both = [running("redis", moved.clone()), claim("persistence-server")].concat();
    let begin_again =
        "the numbers would begin again: set persistenceServer.settings.SEQUENCE_FLOOR";
    vec![
        (
            running("file", file.clone()),
            on("redis", 0),
            Some("the store changes from file to redis"),
        ),
        (
            running("file", file.clone()),
            on("redis", 0),
            Some(begin_again),
        ),
        (running("file", file.clone()), on("redis", 1000), None),
        (running("file", file), on("file", 0), None),
        // Moved already: what the old store has left stands in the way of nothing.
        (both.clone(), on("redis", 1000), None),
        (both, on("redis", 0), None),
        // The mark of the last change is below the numbers of today.
        (
            running("redis", moved.clone()),
            on("postgres", 1000),
            Some(begin_again),
        ),
        (running("redis", moved.clone()), on("postgres", 2000), None),
        (
            running("redis", moved),
            elsewhere.clone(),
            Some("from redis to external redis b"),
        ),
        (
            running("external", external),
            elsewhere.clone(),
            Some("from external redis a to external redis b"),
        ),
        // After helm uninstall the claims are what is left.
        (
            claim("persistence-server"),
            on("redis", 0),
            Some("data-persistence-server-0"),
        ),
        (claim("redis"), on("file", 0), Some("data-redis-0")),
        (claim("etcd"), elsewhere, Some("data-etcd-0")),
        (claim("postgres"), on("etcd", 1000), None),
        (claim("postgres"), on("postgres", 0), None),
    ]
}
