//! Telemetry of a whole process; all that is global is in this one test.

use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use plaza_telemetry::admin::{self, Readiness};
use plaza_telemetry::{Config, ProcessorMetrics, RpcMetrics, propagation};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tonic::Code;
use tower::ServiceExt;

async fn get(router: &axum::Router, path: &str) -> anyhow::Result<(StatusCode, String)> {
    let response = router.clone().oneshot(Request::get(path).body(Body::empty())?).await?;
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await?;
    Ok((status, String::from_utf8(body.to_vec())?))
}

#[track_caller]
fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|shown| shown == *line), "no line {line:?} in\n{text}");
    }
}

#[tokio::test]
async fn a_process_measures_serves_and_ends() {
    // A collector that takes spans and never answers.
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let otlp_endpoint = format!("http://{}", collector.local_addr().unwrap());
    let config = Config { log_level: "off".into(), otlp_endpoint, trace_sample_ratio: 1.0, ..Config::default() };
    let telemetry = plaza_telemetry::init(&config, "plaza").unwrap();
    assert!(plaza_telemetry::init(&config, "plaza").is_err(), "a second time is refused");

    let rpc = RpcMetrics::new();
    for _ in 0..2 {
        rpc.record("/plaza.chat.v1.ChatService/SendMessage", Code::Ok, Duration::from_millis(3));
    }
    rpc.record("plaza.chat.v1.ChatService/SendMessage", Code::NotFound, Duration::from_millis(30));
    let processor = ProcessorMetrics::new("inbox", 3);
    processor.lag(41, Duration::from_millis(1500));
    processor.batch(120);
    processor.written(Duration::from_micros(700));
    processor.applied(118);
    processor.skipped(2);
    processor.parked();
    processor.duplicates(0);

    let readiness = Readiness::default();
    let router = admin::router(telemetry.metrics().clone(), readiness.clone());
    let (status, text) = get(&router, "/metrics").await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let method = "rpc_method=\"plaza.chat.v1.ChatService/SendMessage\"";
    assert_lines(
        &text,
        &[
            &format!("rpc_server_call_duration_seconds_count{{{method},rpc_response_status_code=\"OK\",rpc_system_name=\"grpc\"}} 2"),
            &format!(
                "rpc_server_call_duration_seconds_bucket{{{method},rpc_response_status_code=\"NOT_FOUND\",rpc_system_name=\"grpc\",le=\"0.05\"}} 1"
            ),
            "plaza_processor_lag_records{partition=\"3\",processor=\"inbox\"} 41",
            "plaza_processor_lag_seconds{partition=\"3\",processor=\"inbox\"} 1.5",
            "plaza_processor_batch_records_bucket{processor=\"inbox\",le=\"200\"} 1",
            "plaza_processor_write_seconds_count{processor=\"inbox\"} 1",
            "plaza_processor_records_applied_total{processor=\"inbox\"} 118",
            "plaza_processor_records_skipped_total{processor=\"inbox\"} 2",
            "plaza_processor_records_parked_total{processor=\"inbox\"} 1",
        ],
    );
    assert!(!text.contains("duplicates_dropped") && !text.contains("otel_scope"), "{text}");

    drop(processor);
    assert_lines(&get(&router, "/metrics").await.unwrap().1, &["plaza_processor_lag_records{partition=\"3\",processor=\"inbox\"} 0"]);

    for n in 0..600 {
        rpc.record(&format!("made.Up/{n}"), Code::Unimplemented, Duration::ZERO);
    }
    let (_, text) = get(&router, "/metrics").await.unwrap();
    let methods = text.lines().filter(|line| line.starts_with("rpc_server_call_duration_seconds_count")).count();
    assert!(methods < 520 && text.contains("rpc_method=\"_OTHER\""), "{methods} methods");

    assert_eq!(get(&router, "/healthz").await.unwrap().0, StatusCode::OK);
    assert_eq!(get(&router, "/readyz").await.unwrap().0, StatusCode::SERVICE_UNAVAILABLE);
    readiness.set(true);
    assert_eq!(get(&router, "/readyz").await.unwrap(), (StatusCode::OK, "ready\n".to_owned()));

    tracing::info_span!("call").in_scope(|| assert!(propagation::current_traceparent().is_some()));
    let started = Instant::now();
    let (ended, collected) = tokio::join!(telemetry.shutdown(), async {
        let mut connection = collector.accept().await?.0;
        let mut sent = [0; 14];
        connection.read_exact(&mut sent).await?;
        assert_eq!(&sent, b"PRI * HTTP/2.0");
        std::io::Result::Ok(connection)
    });
    collected.unwrap();
    assert!(ended.is_err() && started.elapsed() < Duration::from_secs(3), "{ended:?} after {:?}", started.elapsed());
}
