//! The page with made-up traffic, to work on its looks: `cargo run -p lateen-dashboard --example demo`.
#![allow(missing_docs, clippy::unwrap_used, clippy::too_many_arguments)]

use std::{net::IpAddr, sync::Arc, time::Instant};

use axum::{Router, routing::get};
use lateen_base::{Code, Finding, Location, ports};
use lateen_dashboard::{Facts, Pod};

struct Demo;

fn pod(number: u8, app: &str, version: &str, ready: bool) -> Pod {
    let gateway = app == "istio-ingressgateway";
    Pod {
        namespace: if gateway || app == "istiod" { "istio-system" } else { "default" }.into(),
        name: format!("{app}-{version}-7d4b9c6f5-x{number:04}"),
        workload: format!("{app}-{version}"),
        app: app.into(),
        version: version.into(),
        ip: Some(IpAddr::from([127, 0, 9, number])),
        ready,
        status: if ready { "Running" } else { "CrashLoopBackOff" }.into(),
        containers: if gateway { "1/1" } else if ready { "2/2" } else { "1/2" }.into(),
        restarts: u32::from(!ready) * 3,
        age_seconds: 75,
        injected: !gateway && app != "istiod" && app != "legacy",
        gateway,
    }
}

impl Facts for Demo {
    fn mesh(&self) -> String {
        "demo".into()
    }

    fn pods(&self) -> Vec<Pod> {
        vec![
            pod(1, "istio-ingressgateway", "latest", true),
            pod(2, "frontend", "v1", true),
            pod(3, "backend", "v1", true),
            pod(4, "backend", "v2", true),
            pod(5, "db", "v1", true),
            pod(6, "payments", "v1", false),
            pod(7, "istiod", "latest", true),
            pod(8, "legacy", "latest", true),
        ]
    }

    fn problems(&self) -> Vec<Finding> {
        vec![
            Finding::new(Code::ReferencedResourceNotFound, "Referenced host+subset in destinationrule not found: \"backend+v3\"")
                .with_object("VirtualService default/backend")
                .with_path("spec.http[0].route[1].destination.subset")
                .with_location(Location { file: "examples/mini-mesh/canary.yaml".into(), line: 14, column: 21 })
                .with_remedy("add the subset to the DestinationRule of backend"),
            Finding::new(Code::RetryDoesNotCover5xx, "retries do not fire on 5xx answers").with_object("VirtualService default/frontend"),
        ]
    }

    fn gateway_url(&self) -> Option<String> {
        Some("http://127.0.0.1:8080".into())
    }
}

fn edge(reporter: &str, from: (&str, &str, &str), to: (&str, &str, &str), code: u16, rate: f64, seconds: f64, ms: f64, tls: &str) -> String {
    let labels = format!(
        "reporter=\"{reporter}\",source_workload_namespace=\"{}\",source_canonical_service=\"{}\",source_canonical_revision=\"{}\",destination_workload_namespace=\"{}\",destination_canonical_service=\"{}\",destination_canonical_revision=\"{}\",destination_service_name=\"{}\",connection_security_policy=\"{tls}\",response_code=\"{code}\",response_flags=\"-\"",
        from.0, from.1, from.2, to.0, to.1, to.2, to.1
    );
    let count = (rate * seconds).floor() + 1.0;
    let mut text = format!("istio_requests_total{{{labels}}} {count}\n");
    for le in [0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0] {
        let part = (le / (ms * 1.4)).min(1.0);
        text.push_str(&format!("istio_request_duration_milliseconds_bucket{{{labels},le=\"{le}\"}} {}\n", (count * part).floor()));
    }
    text.push_str(&format!("istio_request_duration_milliseconds_bucket{{{labels},le=\"+Inf\"}} {count}\n"));
    text
}

fn metrics(number: u8, started: Instant) -> String {
    let seconds = started.elapsed().as_secs_f64();
    let gateway = ("istio-system", "istio-ingressgateway", "latest");
    let [frontend, v1, v2, db] = [("default", "frontend", "v1"), ("default", "backend", "v1"), ("default", "backend", "v2"), ("default", "db", "v1")];
    match number {
        1 => edge("source", gateway, frontend, 200, 40.0, seconds, 9.0, "unknown"),
        2 => {
            edge("source", frontend, v1, 200, 36.0, seconds, 4.0, "unknown")
                + &edge("source", frontend, v2, 200, 3.0, seconds, 20.0, "unknown")
                + &edge("source", frontend, v2, 503, 1.0, seconds, 20.0, "unknown")
                + &edge("destination", gateway, frontend, 200, 40.0, seconds, 8.0, "mutual_tls")
                + &edge("source", frontend, ("unknown", "unknown", "unknown"), 200, 0.0, seconds, 8.0, "unknown").replace("destination_service_name=\"unknown\"", "destination_service_name=\"api.example.com\"")
        }
        3 => edge("source", v1, db, 200, 36.0, seconds, 1.0, "unknown") + &edge("destination", frontend, v1, 200, 36.0, seconds, 3.0, "mutual_tls"),
        4 => edge("source", v2, db, 200, 4.0, seconds, 1.0, "unknown") + &edge("destination", frontend, v2, 200, 4.0, seconds, 3.0, "mutual_tls"),
        5 => {
            edge("destination", v1, db, 200, 36.0, seconds, 0.8, "mutual_tls")
                + &edge("destination", v2, db, 200, 4.0, seconds, 0.8, "mutual_tls")
                + &edge("destination", ("default", "legacy", "latest"), db, 200, 2.0, seconds, 0.8, "none")
        }
        _ => String::new(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let started = Instant::now();
    for number in 1..=6u8 {
        let app = Router::new().route("/stats/prometheus", get(move || async move { metrics(number, started) }));
        let listener = tokio::net::TcpListener::bind((IpAddr::from([127, 0, 9, number]), ports::PROMETHEUS)).await.unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8097").await.unwrap();
    println!("http://127.0.0.1:8097");
    axum::serve(listener, lateen_dashboard::router(Arc::new(Demo))).await.unwrap();
}
