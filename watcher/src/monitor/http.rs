//! Metrics and health over HTTP.
//!
//! `/metrics` is for Prometheus. `/healthz` is 200 while both nodes are being asked and an active one is known, and 503
//! otherwise, with the reason; targets have no part in it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use watcher_core::health::Health;

use super::metrics;
use crate::state::Store;

/// What the pages are made from.
pub(super) struct Pages {
    /// Names and keys. A key is found by looking at the file system, which may hang: not when a page is asked for.
    pub(super) targets: Vec<(String, PathBuf)>,
    pub(super) store: Arc<Store>,
    pub(super) health: Arc<Mutex<Health>>,
}

/// Between two attempts to listen, or to go on when there are no file descriptors left.
const AGAIN: Duration = Duration::from_secs(5);
/// At most so many are served at the same time,
const AT_ONCE: usize = 16;
/// and each for so long.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

/// Serves for ever. An address that cannot be had is no reason to stop following the nodes.
pub(super) async fn serve(listen: SocketAddr, pages: Arc<Pages>) {
    let mut told = false;
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                tracing::info!("http://{listen}/metrics and http://{listen}/healthz are served");
                accept(&listener, &pages).await;
            }
            Err(error) if !std::mem::replace(&mut told, true) => {
                tracing::error!(
                    "cannot listen on {listen}: {error}; correct http.listen, or stop who has it; it is tried again"
                );
            }
            Err(_) => {}
        }
        sleep(AGAIN).await;
    }
}

async fn accept(listener: &TcpListener, pages: &Arc<Pages>) {
    let free = Arc::new(Semaphore::new(AT_ONCE));
    let mut served = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        let accepted = listener.accept().await;
        while served.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let pages = Arc::clone(pages);
                served.spawn(async move {
                    // Whoever is too slow is left alone.
                    let _ = timeout(SERVED_WITHIN, answer(stream, pages)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection for metrics: {error}");
                sleep(AGAIN).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, pages: Arc<Pages>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = pages.page(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    // A client that goes away has what it wanted.
    let _ = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
}

impl Pages {
    fn page(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let mut response = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/metrics") => metrics::page(&self.targets, &self.store)
                .map_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written"), openmetrics),
            (&Method::GET | &Method::HEAD, "/healthz") => {
                match self.health.lock().unwrap_or_else(PoisonError::into_inner).verdict(Instant::now()) {
                    Ok(fact) => text(StatusCode::OK, &fact),
                    Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &reason),
                }
            }
            (_, "/metrics" | "/healthz") => {
                let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
            _ => text(StatusCode::NOT_FOUND, "there are /metrics and /healthz"),
        };
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn text(status: StatusCode, line: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

fn openmetrics(page: String) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", page)
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
