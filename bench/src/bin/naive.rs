//! The naive witness: the front end as one writes it without coalescing, one request to
//! `persistence_server` for each request, with actix-web and its own client.
//!
//! It has no metrics, no log, no limits and no drain: what it costs more than `hash_server` is
//! the upstream request alone.
//!
//! `naive PORT UPSTREAM_URL`

use std::{env, io};

use actix_web::{App, HttpResponse, HttpServer, error::ErrorBadGateway, web};
use awc::Client;
use sequence::{Count, wire};
use sha2::{Digest as _, Sha256};

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let (Some(port), Some(upstream)) = (args.next(), args.next()) else {
        return Err(io::Error::other("usage: naive PORT UPSTREAM_URL"));
    };
    let port: u16 = port.parse().map_err(io::Error::other)?;
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::new(Client::default()))
                .app_data(web::Data::new(upstream.clone()))
                .route("/", web::get().to(hash))
        });
        server.workers(1).bind(("127.0.0.1", port))?.run().await
    })
}

async fn hash(
    client: web::Data<Client>,
    upstream: web::Data<String>,
) -> actix_web::Result<HttpResponse> {
    let answer = client.get(upstream.as_str()).send().await;
    let body = answer.map_err(ErrorBadGateway)?.body().await?;
    let block = wire::decode_block(&body, Count::ONE).map_err(ErrorBadGateway)?;
    let number = block.first();
    let hash = Sha256::digest(number.to_string());
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .body(wire::encode_hashed(number, &hash)))
}
