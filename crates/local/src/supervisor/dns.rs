//! The cluster's DNS server.
//!
//! - Reads: Services and Pods of the store; the host's resolver for everything outside.
//! - Source: Kubernetes' «DNS for Services and Pods».
//! - Rule: [`lookup`] is pure over the store; names of the cluster never leave the machine.
//! - Limits: A records, and CNAME for `ExternalName`. Other types of an existing name get an empty answer; there is no IPv6 in the sandbox.

use super::host_link::HostLink;
use crate::channel::Resolution;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, CNAME};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::zone_handler::MessageResponseBuilder;
use lateen_base::names::{CLUSTER_DOMAIN, HOST_ALIAS};
use lateen_base::ports::{DNS, DNS_ADDRESS, HOST_LOOPBACK_ALIAS};
use lateen_store::{Filter, Key, Store};
use serde_json::Value;
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};

/// Short, since endpoints change: as `CoreDNS` has it for Kubernetes.
const CLUSTER_TTL: u32 = 5;
/// The host's resolver does not tell; it caches itself.
const OUTSIDE_TTL: u32 = 30;
/// Idle time of a TCP connection.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers that wait to be sent on one TCP connection.
const TCP_QUEUE: usize = 32;

/// What the cluster knows about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// These addresses; none for a Service without ready pods.
    Addresses(Vec<Ipv4Addr>),
    /// Another name, outside.
    Alias(String),
    /// In the cluster's domain, but there is no such thing.
    NoSuchName,
    /// Not a name of the cluster.
    Outside,
}

/// Looks a lower-case name without final dot up in the cluster.
pub(crate) fn lookup(store: &Store, name: &str) -> Lookup {
    if name == HOST_ALIAS {
        return Lookup::Addresses(vec![HOST_LOOPBACK_ALIAS]);
    }
    let Some(inner) = name.strip_suffix(CLUSTER_DOMAIN).and_then(|inner| inner.strip_suffix('.').or((inner.is_empty()).then_some(""))) else {
        return Lookup::Outside;
    };
    let labels: Vec<&str> = inner.split('.').collect();
    match labels.as_slice() {
        [service, namespace, "svc"] => service_lookup(store, service, namespace),
        [pod, service, namespace, "svc"] => member_lookup(store, pod, service, namespace),
        [dashed, namespace, "pod"] => pod_lookup(store, dashed, namespace),
        // The domain itself and its inner nodes exist.
        ["" | "svc" | "pod"] => Lookup::Addresses(Vec::new()),
        [namespace, "svc" | "pod"] if store.get(&Key::new("v1", "Namespace", "", namespace)).is_some() => Lookup::Addresses(Vec::new()),
        _ => Lookup::NoSuchName,
    }
}

fn service_lookup(store: &Store, name: &str, namespace: &str) -> Lookup {
    let Some(service) = store.get(&Key::new("v1", "Service", namespace, name)) else { return Lookup::NoSuchName };
    let text = |field: &str| service["spec"][field].as_str().unwrap_or_default().to_owned();
    if text("type") == "ExternalName" {
        return Lookup::Alias(text("externalName").trim_end_matches('.').to_ascii_lowercase());
    }
    match text("clusterIP").parse() {
        Ok(address) => Lookup::Addresses(vec![address]),
        Err(_) => Lookup::Addresses(members(store, &service, namespace).into_iter().map(|(_, address)| address).collect()),
    }
}

/// `POD.SERVICE.NAMESPACE.svc`: one pod of a headless Service, by host name, pod name or dashed address.
fn member_lookup(store: &Store, pod: &str, service: &str, namespace: &str) -> Lookup {
    let Some(service) = store.get(&Key::new("v1", "Service", namespace, service)) else { return Lookup::NoSuchName };
    let named = |object: &Value, address: Ipv4Addr| {
        object["spec"]["hostname"].as_str() == Some(pod) || object["metadata"]["name"].as_str() == Some(pod) || dashes(address) == pod
    };
    let found: Vec<Ipv4Addr> = members(store, &service, namespace).into_iter().filter(|(object, address)| named(object, *address)).map(|(_, ip)| ip).collect();
    if found.is_empty() { Lookup::NoSuchName } else { Lookup::Addresses(found) }
}

/// `10-244-0-7.NAMESPACE.pod`, or the pod's name in the place of the address.
fn pod_lookup(store: &Store, word: &str, namespace: &str) -> Lookup {
    if let Ok(address) = word.replace('-', ".").parse() {
        return Lookup::Addresses(vec![address]);
    }
    let pod = store.get(&Key::new("v1", "Pod", namespace, word));
    pod.and_then(|pod| address_of(&pod)).map_or(Lookup::NoSuchName, |address| Lookup::Addresses(vec![address]))
}

/// The pods that a Service selects: ready ones, or all with `publishNotReadyAddresses`.
fn members(store: &Store, service: &Value, namespace: &str) -> Vec<(Arc<Value>, Ipv4Addr)> {
    let Some(selector) = service.pointer("/spec/selector").and_then(Value::as_object).filter(|selector| !selector.is_empty()) else { return Vec::new() };
    let all = service["spec"]["publishNotReadyAddresses"] == true;
    let pods = store.list(&Filter { kind: "Pod".into(), namespace: namespace.into(), ..Filter::default() });
    let chosen = pods.into_iter().filter(|pod| selector.iter().all(|(label, value)| pod["metadata"]["labels"].get(label) == Some(value)));
    chosen.filter(|pod| all || super::pod::status::is_ready(pod)).filter_map(|pod| address_of(&pod).map(|address| (pod, address))).collect()
}

fn address_of(pod: &Value) -> Option<Ipv4Addr> {
    pod.pointer("/status/podIP")?.as_str()?.parse().ok()
}

fn dashes(address: Ipv4Addr) -> String {
    address.to_string().replace('.', "-")
}

/// Serves until the supervisor ends.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) async fn start(store: Store, host: Arc<HostLink>) -> io::Result<()> {
    let mut server = Server::new(Responder { store, host });
    server.register_socket(UdpSocket::bind((DNS_ADDRESS, DNS)).await?);
    server.register_listener(TcpListener::bind((DNS_ADDRESS, DNS)).await?, TCP_IDLE, TCP_QUEUE);
    tokio::spawn(async move {
        if let Err(error) = server.block_until_done().await {
            eprintln!("DNS server: {error}");
        }
    });
    Ok(())
}

struct Responder {
    store: Store,
    host: Arc<HostLink>,
}

struct Reply {
    code: ResponseCode,
    records: Vec<Record>,
}

impl Responder {
    async fn reply(&self, name: &Name, wanted: RecordType) -> Reply {
        let text = name.to_string().trim_end_matches('.').to_ascii_lowercase();
        match lookup(&self.store, &text) {
            Lookup::Addresses(addresses) => Reply::addresses(name, &addresses, wanted, CLUSTER_TTL),
            Lookup::NoSuchName => Reply { code: ResponseCode::NXDomain, records: Vec::new() },
            Lookup::Outside => self.outside(name, &text, wanted).await,
            Lookup::Alias(target) => {
                let Ok(canonical) = Name::from_str(&format!("{target}.")) else { return Reply { code: ResponseCode::ServFail, records: Vec::new() } };
                let alias = Record::from_rdata(name.clone(), CLUSTER_TTL, RData::CNAME(CNAME(canonical.clone())));
                let mut reply = match lookup(&self.store, &target) {
                    Lookup::Addresses(addresses) => Reply::addresses(&canonical, &addresses, wanted, CLUSTER_TTL),
                    _ => self.outside(&canonical, &target, wanted).await,
                };
                reply.records.insert(0, alias);
                reply
            }
        }
    }

    async fn outside(&self, name: &Name, text: &str, wanted: RecordType) -> Reply {
        match self.host.resolve(text.to_owned()).await {
            Resolution::Addresses(addresses) => Reply::addresses(name, &addresses, wanted, OUTSIDE_TTL),
            Resolution::NoSuchName => Reply { code: ResponseCode::NXDomain, records: Vec::new() },
            Resolution::Failed(_) => Reply { code: ResponseCode::ServFail, records: Vec::new() },
        }
    }
}

impl Reply {
    fn addresses(name: &Name, addresses: &[Ipv4Addr], wanted: RecordType, ttl: u32) -> Self {
        let shown = if matches!(wanted, RecordType::A | RecordType::ANY) { addresses } else { &[] };
        let records = shown.iter().map(|address| Record::from_rdata(name.clone(), ttl, RData::A(A(*address)))).collect();
        Self { code: ResponseCode::NoError, records }
    }
}

impl RequestHandler for Responder {
    // Written out as the trait's macro would: this is its only use.
    fn handle_request<'life0, 'life1, 'async_trait, R, T>(
        &'life0 self,
        request: &'life1 Request,
        mut response: R,
    ) -> Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'async_trait>>
    where
        R: ResponseHandler + 'async_trait,
        T: Time + 'async_trait,
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let mut metadata = Metadata::response_from_request(&request.metadata);
            let reply = match request.request_info() {
                Ok(info) => self.reply(&Name::from(info.query.name()), info.query.query_type()).await,
                Err(_) => Reply { code: ResponseCode::FormErr, records: Vec::new() },
            };
            metadata.response_code = reply.code;
            metadata.authoritative = true;
            metadata.recursion_available = true;
            let nothing = || std::iter::empty::<&Record>();
            let message = MessageResponseBuilder::from_message_request(request).build(metadata, &reply.records, nothing(), nothing(), nothing());
            match response.send_response(message).await {
                Ok(info) => info,
                Err(error) => {
                    eprintln!("DNS answer to {}: {error}", request.src());
                    hickory_server::proto::op::Header { metadata, counts: Default::default() }.into()
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::SystemTime;

    fn store() -> Store {
        let store = Store::new(|| SystemTime::UNIX_EPOCH);
        let ready = json!({"podIP": "10.244.0.7", "conditions": [{"type": "Ready", "status": "True"}]});
        for object in [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "backend"}, "spec": {"clusterIP": "10.96.1.5"}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"}, "spec": {"clusterIP": "None", "selector": {"app": "db"}}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "out"}, "spec": {"type": "ExternalName", "externalName": "Example.com."}}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db-0", "labels": {"app": "db"}}, "spec": {}, "status": ready}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db-1", "labels": {"app": "db"}}, "spec": {}, "status": {"podIP": "10.244.0.8"}}),
        ] {
            store.create(object).unwrap();
        }
        store
    }

    fn addresses(name: &str) -> Vec<String> {
        match lookup(&store(), name) {
            Lookup::Addresses(found) => found.iter().map(Ipv4Addr::to_string).collect(),
            other => vec![format!("{other:?}")],
        }
    }

    #[test]
    fn a_service_has_its_address() {
        assert_eq!(addresses("backend.default.svc.cluster.local"), ["10.96.1.5"]);
    }

    #[test]
    fn a_headless_service_has_its_ready_pods() {
        assert_eq!(addresses("db.default.svc.cluster.local"), ["10.244.0.7"]);
        assert_eq!(addresses("db-0.db.default.svc.cluster.local"), ["10.244.0.7"]);
    }

    #[test]
    fn pods_have_names_of_their_own() {
        assert_eq!(addresses("10-244-0-9.default.pod.cluster.local"), ["10.244.0.9"]);
        assert_eq!(addresses("db-1.default.pod.cluster.local"), ["10.244.0.8"]);
    }

    #[test]
    fn the_host_has_a_name() {
        assert_eq!(addresses("host.lateen.internal"), [HOST_LOOPBACK_ALIAS.to_string()]);
    }

    #[test]
    fn unknown_names_of_the_cluster_do_not_go_outside() {
        assert_eq!(lookup(&store(), "nothing.default.svc.cluster.local"), Lookup::NoSuchName);
        assert_eq!(lookup(&store(), "example.com.default.svc.cluster.local"), Lookup::NoSuchName);
        assert_eq!(lookup(&store(), "example.com"), Lookup::Outside);
        assert_eq!(lookup(&store(), "mycluster.local"), Lookup::Outside);
    }

    #[test]
    fn an_external_name_is_an_alias() {
        assert_eq!(lookup(&store(), "out.default.svc.cluster.local"), Lookup::Alias("example.com".into()));
    }
}
