//! YAML that tests build on: the objects of the tutorials, with their names and versions filled in.

/// Text wrapped so that several pieces form one file.
#[must_use]
pub fn join(parts: &[String]) -> String {
    parts.join("---\n")
}

/// A Namespace; every new one is injected.
#[must_use]
pub fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels: {{istio-injection: enabled}}\n")
}

/// A Namespace whose pods get no sidecar.
#[must_use]
pub fn plain_namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels: {{istio-injection: disabled}}\n")
}

/// A Service `app` with port 80 named `http`, to 5678.
#[must_use]
pub fn service(namespace: &str, app: &str) -> String {
    service_port(namespace, app, "http", 80, 5678)
}

/// A Service with one port.
#[must_use]
pub fn service_port(namespace: &str, app: &str, port_name: &str, port: u16, target: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {app}, namespace: {namespace}}}\nspec:\n  selector: {{app: {app}}}\n  ports:\n  - {{name: {port_name}, port: {port}, targetPort: {target}}}\n"
    )
}

/// A Deployment `app-version` of http-echo that answers `text`, with service account `app`.
#[must_use]
pub fn echo(namespace: &str, app: &str, version: &str, text: &str, replicas: u32) -> String {
    deployment(namespace, app, version, replicas, &format!("image: hashicorp/http-echo\n        args: [\"-text={text}\"]\n        ports: [{{containerPort: 5678}}]\n"))
}

/// A Deployment of httpbin on port 80.
#[must_use]
pub fn httpbin(namespace: &str, app: &str, version: &str) -> String {
    deployment(namespace, app, version, 1, "image: docker.io/kennethreitz/httpbin\n        ports: [{containerPort: 80}]\n")
}

/// A pod to send requests from, with service account `app`.
#[must_use]
pub fn client(namespace: &str, app: &str) -> String {
    deployment(namespace, app, "v1", 1, "image: curlimages/curl\n        command: [\"sleep\", \"infinity\"]\n")
}

/// A Deployment `app-version` and, with version v1, its ServiceAccount `app`; `container` is the rest of its only container.
#[must_use]
pub fn deployment(namespace: &str, app: &str, version: &str, replicas: u32, container: &str) -> String {
    // Versions of one app share its account, and one document may not be given twice.
    let account = if version == "v1" { format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {app}, namespace: {namespace}}}\n---\n") } else { String::new() };
    format!(
        "{account}apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {app}-{version}, namespace: {namespace}}}\nspec:\n  replicas: {replicas}\n  selector:\n    matchLabels: {{app: {app}, version: {version}}}\n  template:\n    metadata:\n      labels: {{app: {app}, version: {version}}}\n    spec:\n      serviceAccountName: {app}\n      terminationGracePeriodSeconds: 2\n      containers:\n      - name: {app}\n        {container}"
    )
}

/// A DestinationRule with subsets v1 and v2 by label; `policy` is an optional trafficPolicy in flow style.
#[must_use]
pub fn subsets(namespace: &str, app: &str, policy: &str) -> String {
    let policy = if policy.is_empty() { String::new() } else { format!("  trafficPolicy: {policy}\n") };
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {app}, namespace: {namespace}}}\nspec:\n  host: {app}\n{policy}  subsets:\n  - {{name: v1, labels: {{version: v1}}}}\n  - {{name: v2, labels: {{version: v2}}}}\n"
    )
}

/// A DestinationRule with a trafficPolicy in flow style and no subsets.
#[must_use]
pub fn policy(namespace: &str, app: &str, policy: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {app}, namespace: {namespace}}}\nspec:\n  host: {app}\n  trafficPolicy: {policy}\n")
}

/// A VirtualService on `app` whose `http` list is `http` (indented by two).
#[must_use]
pub fn virtual_service(namespace: &str, app: &str, http: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {app}, namespace: {namespace}}}\nspec:\n  hosts: [{app}]\n  http:\n{http}")
}

/// A VirtualService that splits between subsets v1 and v2.
#[must_use]
pub fn split(namespace: &str, app: &str, v1: u32, v2: u32) -> String {
    virtual_service(
        namespace,
        app,
        &format!("  - route:\n    - destination: {{host: {app}, subset: v1}}\n      weight: {v1}\n    - destination: {{host: {app}, subset: v2}}\n      weight: {v2}\n"),
    )
}
