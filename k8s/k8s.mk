# Tasks for a cluster: wherever kubectl points to. docs/kubernetes.md shows the same commands.

# What to deploy: k8s, or one of k8s/overlays.
K8S ?= k8s
# The namespace, as in components/metadata.
NAMESPACE ?= microservices
REPLICAS ?= 4

.PHONY: k8s-load k8s-apply k8s-wait k8s-forward k8s-check k8s-roll k8s-scale k8s-down \
	k8s-registry k8s-render k8s-e2e k8s-guide

k8s-load: ## Load the images into minikube or kind, whichever kubectl points to
	@scripts/k8s-load

k8s-apply: ## Deploy to Kubernetes; K8S=k8s/overlays/redis for another store
	kubectl apply -k $(K8S)

k8s-wait: ## Wait until all pods are ready
	@scripts/k8s-wait $(NAMESPACE)

k8s-forward: ## Make the services reachable at localhost, until Ctrl-C
	@scripts/k8s-forward $(NAMESPACE)

k8s-check: ## Prove the promise from inside the cluster
	@scripts/k8s-check $(NAMESPACE)

k8s-roll: ## Replace every pod, one after another
	kubectl -n $(NAMESPACE) rollout restart deployment,statefulset
	@scripts/k8s-wait $(NAMESPACE)

k8s-scale: ## Run REPLICAS pods of hash_server
	kubectl -n $(NAMESPACE) scale deployment hash-server --replicas=$(REPLICAS)
	@scripts/k8s-wait $(NAMESPACE)

k8s-down: ## Remove all of it from the cluster, and the numbers too
	kubectl delete namespace $(NAMESPACE)

k8s-registry: ## Run a registry that the node reaches as localhost:5000
	kubectl apply -k k8s/overlays/registry
	@scripts/k8s-wait registry

k8s-render: ## Write k8s/microservices.yaml, for kubectl apply -f
	@printf '# Made from k8s by "make k8s-render".\n' >k8s/microservices.yaml
	kubectl kustomize k8s >>k8s/microservices.yaml

k8s-e2e: ## Roll, scale and delete everything under load, with each store, and count what fails
	@scripts/k8s-e2e $(STORES)

k8s-guide: ## Follow the guide in the cluster; PAGES="05 07" for some pages (its images must be there)
	cargo test --package e2e --test kubernetes -- --ignored --nocapture the_guide_shows
