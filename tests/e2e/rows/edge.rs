//! Row S48: the ingress gateway, plain, TLS, passthrough and redirecting.

use crate::{Own, Shared};
use anyhow::{Result, ensure};
use lateen_e2e::{Mesh, Person, wait_until, yaml};
use std::process::Command;
use std::time::Duration;

pub const SHARED: &[(&str, Shared)] = &[
    ("edge::s48_gateway_and_virtual_service", s48),
    ("edge::s48_tls_simple_mutual_passthrough_redirect", s48_tls),
    ("edge::outside_traffic_leaves_through_the_host", outside),
];

pub const OWN: &[(&str, Own)] = &[("edge::a_taken_ingress_port_is_a_clear_error", taken_port)];

fn s48(mesh: &Mesh, ns: &str) -> Result<()> {
    let host = format!("{ns}.example");
    mesh.deploy(ns, &yaml::join(&[yaml::namespace(ns), yaml::service(ns, "web"), yaml::echo(ns, "web", "v1", "web", 1)]))?;
    mesh.apply(&format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: web, namespace: {ns}}}\nspec:\n  selector: {{istio: ingressgateway}}\n  servers:\n  - port: {{number: 80, name: http, protocol: HTTP}}\n    hosts: [\"{host}\"]\n---\n\
apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: web, namespace: {ns}}}\nspec:\n  hosts: [\"{host}\"]\n  gateways: [web]\n  http:\n  - match:\n    - uri: {{prefix: /web}}\n    route:\n    - destination: {{host: web, port: {{number: 80}}}}\n"
    ))?;
    wait_until("the gateway to serve", Duration::from_secs(5), || Ok(mesh.ingress(&host, "/web")?.status == 200))?;
    ensure!(mesh.ingress(&host, "/web")?.body.trim() == "web");
    ensure!(mesh.ingress(&host, "/other")?.status == 404, "no route");
    let unknown = mesh.ingress("unknown.example", "/web")?;
    ensure!(unknown.status == 404, "{unknown:?}");
    mesh.log_line("istio-system", "deploy/istio-ingressgateway", "istio-proxy", &["unknown.example", " 404 NR route_not_found"])?;
    let answer = mesh.ingress(&host, "/web")?;
    ensure!(answer.head.to_ascii_lowercase().contains("server: istio-envoy"), "{}", answer.head);
    Ok(())
}

/// A CA, and a key and certificate for `host`, as PEM files in a fresh folder.
fn certificates(host: &str) -> Result<std::path::PathBuf> {
    let dir = lateen_e2e::mesh::scratch("certs")?;
    let script = format!(
        "set -e; cd '{}'\n\
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /O=test -keyout ca.key -out ca.crt\n\
for who in server client; do\n\
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=$who -keyout $who.key -out $who.csr\n\
printf 'subjectAltName=DNS:{host}' > $who.ext\n\
openssl x509 -req -in $who.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile $who.ext -out $who.crt\n\
done",
        dir.display()
    );
    let output = Command::new("sh").args(["-c", &script]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(dir)
}

fn s48_tls(mesh: &Mesh, ns: &str) -> Result<()> {
    let host = |kind: &str| format!("{kind}.{ns}.example");
    let dir = certificates(&format!("*.{ns}.example"))?;
    let pem = |name: &str| -> Result<String> { Ok(std::fs::read_to_string(dir.join(name))?.replace('\n', "\n    ").trim_end().to_owned()) };
    let secret = |name: &str, ca: bool| -> Result<String> {
        let ca = if ca { format!("  ca.crt: |\n    {}\n", pem("ca.crt")?) } else { String::new() };
        Ok(format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n{ca}",
            pem("server.crt")?,
            pem("server.key")?
        ))
    };
    mesh.deploy(ns, &yaml::join(&[yaml::namespace(ns), yaml::service(ns, "web"), yaml::echo(ns, "web", "v1", "web", 1)]))?;
    let (simple, mutual, through, redirect) = (host("simple"), host("mutual"), host("through"), host("redirect"));
    mesh.apply(&yaml::join(&[
        secret(&format!("{ns}-simple"), false)?,
        secret(&format!("{ns}-mutual"), true)?,
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: web, namespace: {ns}}}\nspec:\n  selector: {{istio: ingressgateway}}\n  servers:\n  - port: {{number: 443, name: https-simple, protocol: HTTPS}}\n    hosts: [\"{simple}\"]\n    tls: {{mode: SIMPLE, credentialName: {ns}-simple}}\n  - port: {{number: 443, name: https-mutual, protocol: HTTPS}}\n    hosts: [\"{mutual}\"]\n    tls: {{mode: MUTUAL, credentialName: {ns}-mutual}}\n  - port: {{number: 443, name: tls-through, protocol: TLS}}\n    hosts: [\"{through}\"]\n    tls: {{mode: PASSTHROUGH}}\n  - port: {{number: 80, name: http-redirect, protocol: HTTP}}\n    hosts: [\"{redirect}\"]\n    tls: {{httpsRedirect: true}}\n"
        ),
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: web, namespace: {ns}}}\nspec:\n  hosts: [\"{simple}\", \"{mutual}\", \"{redirect}\"]\n  gateways: [web]\n  http:\n  - route:\n    - destination: {{host: web, port: {{number: 80}}}}\n"
        ),
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: through, namespace: {ns}}}\nspec:\n  hosts: [\"{through}\"]\n  gateways: [web]\n  tls:\n  - match: [{{port: 443, sniHosts: [\"{through}\"]}}]\n    route:\n    - destination: {{host: web, port: {{number: 80}}}}\n"
        ),
    ]))?;
    let ca = dir.join("ca.crt").display().to_string();
    let ask = |host: &str, options: &[&str]| {
        let to = format!("{host}:{}:127.0.0.1", mesh.ingress_tls);
        let url = format!("https://{host}:{}/", mesh.ingress_tls);
        lateen_e2e::mesh::curl(&[&["--resolve", &to, "--cacert", &ca], options, &[&url]].concat())
    };
    wait_until("TLS at the gateway", Duration::from_secs(5), || Ok(ask(&simple, &[])?.status == 200))?;
    ensure!(ask(&simple, &["--http2"])?.head.starts_with("HTTP/2 200"), "HTTP/2 by ALPN");
    let refused = ask(&mutual, &[])?;
    ensure!(refused.status == 0 && refused.curl != 0, "MUTUAL without a certificate: {refused:?}");
    let (cert, key) = (dir.join("client.crt").display().to_string(), dir.join("client.key").display().to_string());
    let answer = ask(&mutual, &["--cert", &cert, "--key", &key])?;
    ensure!(answer.status == 200, "MUTUAL with one: {answer:?}");
    // Passed through, the handshake reaches the program behind, which speaks no TLS: the connection fails, but not with the gateway's certificate.
    let passed = ask(&through, &[])?;
    ensure!(passed.status == 0 && passed.curl == 35, "PASSTHROUGH: {passed:?}");
    let answer = mesh.ingress(&redirect, "/x")?;
    ensure!(answer.status == 301 && answer.head.to_ascii_lowercase().contains(&format!("location: https://{redirect}/x")), "{answer:?}");
    Ok(())
}

/// A server on the host's loopback, called from a pod by name: HTTP through a ServiceEntry, and undeclared.
fn outside(mesh: &Mesh, ns: &str) -> Result<()> {
    let port = lateen_e2e::mesh::free_port()?;
    let dir = lateen_e2e::mesh::scratch("www")?;
    std::fs::write(dir.join("page"), "from the host")?;
    let mut server = Command::new("python3").args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).current_dir(&dir).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn()?;
    let outcome = (|| -> Result<()> {
        mesh.deploy(ns, &yaml::join(&[yaml::namespace(ns), yaml::client(ns, "client")]))?;
        let url = format!("http://host.lateen.internal:{port}/page");
        wait_until("the host's page", Duration::from_secs(5), || Ok(mesh.get(ns, "deploy/client-v1", &[&url])?.body == "from the host"))?;
        mesh.log_line(ns, "deploy/client-v1", "istio-proxy", &["PassthroughCluster"])?;
        mesh.apply(&format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: host, namespace: {ns}}}\nspec:\n  hosts: [host.lateen.internal]\n  ports: [{{number: {port}, name: http, protocol: HTTP}}]\n  location: MESH_EXTERNAL\n  resolution: DNS\n"
        ))?;
        wait_until("the ServiceEntry's cluster in the log", Duration::from_secs(5), || {
            ensure!(mesh.get(ns, "deploy/client-v1", &[&url])?.body == "from the host");
            Ok(mesh.logs(ns, "deploy/client-v1", "istio-proxy")?.contains(&format!("outbound|{port}||host.lateen.internal")))
        })
    })();
    server.kill()?;
    server.wait()?;
    outcome
}

fn taken_port(person: Person) -> Result<()> {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let port = taken.local_addr()?.port().to_string();
    let dir = lateen_e2e::mesh::scratch("taken")?;
    std::fs::write(dir.join("a.yaml"), yaml::namespace("default"))?;
    let said = lateen_e2e::mesh::lateen(person, &["up", &dir.display().to_string(), "--name", "e2e-taken", "--ingress", &port])?;
    ensure!(said.code != 0 && said.text().contains(&port) && said.text().contains("--ingress"), "{said:?}");
    Ok(())
}
