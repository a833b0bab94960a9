//! Spans for an OTLP collector: protobuf over HTTP/1.1, to a collector on this machine or its network.

use anyhow::{Context, Result, bail};
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::future::{Future, ready};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::pin::Pin;
use std::time::Duration;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// How long a collector may take to accept spans; they are lost beyond it.
const EXPORT_TIME_MAX: Duration = Duration::from_secs(5);
/// An answer longer than this is not read on.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Where collectors take spans.
const PATH: &str = "/v1/traces";

/// Spans on their way; sends what is left when it is dropped.
#[derive(Debug)]
pub struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// Starts to export to the collector at `endpoint`, such as `http://127.0.0.1:4318`.
    ///
    /// # Errors
    /// Where that is no endpoint.
    pub fn start(endpoint: &str) -> Result<Self> {
        let Some(rest) = endpoint.strip_prefix("http://") else {
            bail!(
                "invalid OTLP endpoint `{endpoint}`: expected `http://host:4318`, the collector's port for OTLP over HTTP"
            );
        };
        let has_path = rest.trim_end_matches('/').contains('/');
        let url =
            if has_path { endpoint.to_owned() } else { endpoint.trim_end_matches('/').to_owned() + PATH };
        let exporter =
            SpanExporter::builder().with_http().with_http_client(Collector).with_endpoint(url).build();
        let exporter =
            exporter.with_context(|| format!("cannot export to the OTLP endpoint `{endpoint}`"))?;
        let resource = Resource::builder().with_service_name("limn").build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        Ok(Self { provider })
    }

    /// The layer that collects the spans.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let layer = tracing_opentelemetry::layer().with_tracer(self.provider.tracer("limn"));
        let layer = layer.with_location(false).with_threads(false);
        layer.with_filter(filter_fn(|metadata| metadata.target() == super::spans::TARGET))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // A collector that is away loses the last spans, as it lost others.
        let _ = self.provider.shutdown();
    }
}

/// Sends batches, from the exporter's own thread: it may block.
#[derive(Debug)]
struct Collector;

impl HttpClient for Collector {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(ready(exchange(&request)))
    }
}

fn exchange(request: &Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let uri = request.uri();
    let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
    let mut addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs()?;
    let address = addresses.next().ok_or("the collector's name has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, EXPORT_TIME_MAX)?;
    stream.set_read_timeout(Some(EXPORT_TIME_MAX))?;
    stream.set_write_timeout(Some(EXPORT_TIME_MAX))?;
    stream.write_all(&head(request, host, port))?;
    stream.write_all(request.body())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status: u16 = answer.split(' ').nth(1).ok_or("the collector's answer is no HTTP")?.parse()?;
    Ok(Response::builder().status(status).body(Bytes::new())?)
}

fn head(request: &Request<Bytes>, host: &str, port: u16) -> Vec<u8> {
    let path = request.uri().path_and_query().map_or(PATH, |path| path.as_str());
    let length = request.body().len();
    let mut head = format!(
        "{} {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\ncontent-length: {length}\r\n",
        request.method()
    )
    .into_bytes();
    for (name, value) in request.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_is_an_endpoint() {
        let error = Exporter::start("https://collector.example").unwrap_err().to_string();
        assert!(error.contains("http://host:4318"), "{error}");
    }

    #[test]
    fn a_head_says_how_long_the_body_is() {
        let request =
            Request::post("http://[::1]:4318/v1/traces").header("content-type", "application/x-protobuf");
        let request = request.body(Bytes::from_static(b"abc")).unwrap();
        let text = String::from_utf8(head(&request, "[::1]", 4318)).unwrap();
        assert!(text.starts_with("POST /v1/traces HTTP/1.1\r\nhost: [::1]:4318\r\n"), "{text}");
        assert!(text.contains("content-length: 3\r\n") && text.ends_with("x-protobuf\r\n\r\n"), "{text}");
    }
}
