//! actix-web by itself, as its documentation begins: what the services are built on, without
//! what they add to it.
//!
//! `actix PORT`

use std::{env, io};

use actix_web::{App, HttpServer, web};

fn main() -> io::Result<()> {
    let port = env::args().nth(1).and_then(|port| port.parse().ok());
    let port: u16 = port.ok_or_else(|| io::Error::other("usage: actix PORT"))?;
    let app = || App::new().route("/", web::get().to(async || "Hello, World!\n"));
    let server = HttpServer::new(app).workers(1).bind(("127.0.0.1", port))?;
    actix_web::rt::System::new().block_on(server.run())
}
