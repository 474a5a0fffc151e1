//! A `persistence_server`: the real coalescer and ratchet behind just enough HTTP.

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use sequence::{Coalescer, Count, Marks, Monitor, Ratchet, wire};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, duplex},
    task::{JoinSet, spawn_local},
    time::sleep,
};

use crate::{
    chain::LIMITS,
    network::{Caller, Link},
    store::Database,
};

/// More than a request or an answer has.
const BUFFER: usize = 4096;

pub(crate) struct Replica {
    database: Database,
    has_ratchet: bool,
    link: Rc<Link>,
    life: RefCell<Option<Life>>,
}

/// What ends with the process.
struct Life {
    coalescer: Coalescer,
    marks: Marks,
    connections: JoinSet<()>,
}

impl Replica {
    /// One of so many pieces of its network breaks a connection, none if `breaks` is 0.
    pub(crate) fn start(database: Database, has_ratchet: bool, seed: u64, breaks: u64) -> Rc<Self> {
        let replica = Rc::new(Self {
            database,
            has_ratchet,
            link: Link::new(seed, breaks),
            life: RefCell::default(),
        });
        replica.be_born();
        replica
    }

    fn be_born(&self) {
        let marks = Marks::default();
        let (database, monitor) = (self.database.clone(), Monitor::default());
        let coalescer = match self.has_ratchet {
            true => Coalescer::start(Ratchet::new(database, marks.clone()), LIMITS, monitor),
            false => Coalescer::start(database, LIMITS, monitor),
        };
        *self.life.borrow_mut() = Some(Life {
            coalescer,
            marks,
            connections: JoinSet::new(),
        });
    }

    pub(crate) fn is_up(&self) -> bool {
        self.life.borrow().is_some()
    }

    /// Ends the process with its connections, and starts another one after a while.
    pub(crate) fn crash(self: Rc<Self>, down: Duration) {
        self.life.take();
        spawn_local(async move {
            sleep(down).await;
            self.be_born();
        });
    }

    /// Lets nothing through for a while.
    pub(crate) fn cut_off(self: Rc<Self>, length: Duration) {
        self.link.is_cut.set(true);
        spawn_local(async move {
            sleep(length).await;
            self.link.is_cut.set(false);
        });
    }

    pub(crate) fn calm_down(&self) {
        self.link.breaks.set(0);
    }

    pub(crate) async fn accept(&self, caller: Caller) {
        self.link.delay().await;
        let connection = self.life.borrow_mut().as_mut().map(|life| {
            let ((near, client), (far, server)) = (duplex(BUFFER), duplex(BUFFER));
            let link = Rc::clone(&self.link);
            let (coalescer, marks) = (life.coalescer.clone(), life.marks.clone());
            life.connections.spawn_local(async move {
                tokio::select! {
                    () = link.carry(near, far) => {}
                    _ = serve(server, coalescer, marks) => {}
                }
            });
            client
        });
        // The caller may be gone.
        let _ = caller.send(connection.ok_or_else(|| io::ErrorKind::ConnectionRefused.into()));
    }
}

async fn serve(stream: DuplexStream, coalescer: Coalescer, marks: Marks) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut field = String::new();
        while field != "\r\n" {
            field.clear();
            if stream.read_line(&mut field).await? == 0 {
                return Ok(());
            }
        }
        let answer = answer(&line, &coalescer, &marks).await;
        stream.write_all(answer.as_bytes()).await?;
    }
}

async fn answer(line: &str, coalescer: &Coalescer, marks: &Marks) -> String {
    if line.starts_with("OPTIONS ") {
        let (name, last) = (wire::LAST, marks.highest());
        return format!("HTTP/1.1 204 No Content\r\n{name}: {last}\r\n\r\n");
    }
    let query = line.split([' ', '?']).nth(2).unwrap_or_default();
    let count = wire::parse_query(query).expect("a count that our client asks for");
    let (status, body) = match coalescer.reserve(count.unwrap_or(Count::ONE)).await {
        Ok(block) => ("200 OK", wire::encode_block(block)),
        Err(_) => ("503 Service Unavailable", "{}".to_owned()),
    };
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")
}
