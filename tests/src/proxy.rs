//! A road to a server that a test can make slow, silent or worse.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::node::Node;
use crate::ports::Port;

/// What the road is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Everything passes at once.
    Open,
    /// Everything passes, a while later.
    Slow(Duration),
    /// Connections are accepted, and nothing passes. What was under way passes when the manner changes: an answer may come
    /// very late.
    Silent,
    /// Half of each answer passes, and the rest never.
    Half,
    /// Half of an answer passes, and the connection ends.
    Cut,
    /// Connections are accepted and end at once.
    Closed,
    /// Closed and open in turn.
    Flapping(Duration),
}

/// A proxy on a port of 127.0.0.1 that runs until the process ends.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    accepted: AtomicUsize,
}

#[derive(Debug)]
struct State {
    /// Where the road leads; nowhere before it is opened.
    target: Option<String>,
    manner: Manner,
    /// Which half of flapping it is.
    is_down: bool,
    /// Counts the changes, so that whatever began under an earlier manner knows that it has passed.
    change: u64,
    /// Both ends of every connection.
    ends: Vec<TcpStream>,
}

impl Proxy {
    /// Reserves a port; nobody listens there yet.
    pub fn reserve() -> Result<Self> {
        let state = State { target: None, manner: Manner::Open, is_down: false, change: 0, ends: Vec::new() };
        Ok(Self {
            port: Port::reserve()?,
            shared: Arc::new(Shared { state: Mutex::new(state), accepted: AtomicUsize::new(0) }),
        })
    }

    /// A road that leads to the server.
    pub fn to(server: &Node) -> Result<Self> {
        let proxy = Self::reserve()?;
        proxy.lead_to(server)?;
        Ok(proxy)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Host and port as an application writes them.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// How many connections it has accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Leads to the server from now on; connections to another one end.
    pub fn lead_to(&self, server: &Node) -> Result<()> {
        let mut state = self.shared.lock();
        let listens = state.target.replace(server.address()).is_some();
        state.end_all();
        drop(state);
        if !listens {
            let listener = TcpListener::bind(("127.0.0.1", self.port()))?;
            let shared = Arc::clone(&self.shared);
            spawn(move || {
                for client in listener.incoming().flatten() {
                    shared.accepted.fetch_add(1, Ordering::Relaxed);
                    shared.take(client);
                }
            });
        }
        Ok(())
    }

    /// Changes what the road is like.
    pub fn behave(&self, manner: Manner) {
        let mut state = self.shared.lock();
        let before = std::mem::replace(&mut state.manner, manner);
        state.change += 1;
        let broken = |manner| matches!(manner, Manner::Half | Manner::Cut | Manner::Closed | Manner::Flapping(_));
        if broken(before) || matches!(manner, Manner::Closed) {
            state.end_all();
        }
        if let Manner::Flapping(period) = manner {
            let (shared, change) = (Arc::clone(&self.shared), state.change);
            spawn(move || shared.flap(period, change));
        }
    }
}

impl State {
    fn is_closed(&self) -> bool {
        match self.manner {
            Manner::Closed => true,
            Manner::Flapping(_) => self.is_down,
            Manner::Open | Manner::Slow(_) | Manner::Silent | Manner::Half | Manner::Cut => false,
        }
    }

    fn end_all(&mut self) {
        for end in self.ends.drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, client: TcpStream) {
        let target = {
            let state = self.lock();
            if state.is_closed() {
                return;
            }
            state.target.clone().unwrap_or_default()
        };
        let Ok(server) = TcpStream::connect(target) else {
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let clones = (client.try_clone(), server.try_clone(), client.try_clone(), server.try_clone());
        let (Ok(client_end), Ok(server_end), Ok(client_kept), Ok(server_kept)) = clones else {
            return;
        };
        self.lock().ends.extend([client_kept, server_kept]);
        self.carry(client, server_end, false);
        self.carry(server, client_end, true);
    }

    /// Carries one direction. Each piece leaves a fixed time after it came, however many are under way.
    fn carry(self: &Arc<Self>, mut from: TcpStream, mut to: TcpStream, is_answer: bool) {
        let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
        spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                if sender.send((Instant::now(), buffer[..length].to_vec())).is_err() {
                    break;
                }
            }
        });
        let shared = Arc::clone(self);
        spawn(move || {
            for (came, bytes) in receiver {
                if !shared.pass(&mut to, came, &bytes, is_answer) {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }

    /// Passes a piece on as the road is; false when the connection is to end.
    fn pass(&self, to: &mut TcpStream, came: Instant, bytes: &[u8], is_answer: bool) -> bool {
        loop {
            let (manner, change) = {
                let state = self.lock();
                if state.is_closed() {
                    return false;
                }
                (state.manner, state.change)
            };
            match manner {
                Manner::Slow(delay) => {
                    sleep((came + delay).saturating_duration_since(Instant::now()));
                    return to.write_all(bytes).is_ok();
                }
                Manner::Silent => self.outlast(change),
                Manner::Half | Manner::Cut if is_answer => {
                    let _ = to.write_all(&bytes[..bytes.len() / 2]);
                    if manner == Manner::Half {
                        self.outlast(change);
                    }
                    return false;
                }
                Manner::Open | Manner::Half | Manner::Cut | Manner::Closed | Manner::Flapping(_) => {
                    return to.write_all(bytes).is_ok();
                }
            }
        }
    }

    /// Waits until the manner has changed.
    fn outlast(&self, change: u64) {
        while self.lock().change == change {
            sleep(Duration::from_millis(5));
        }
    }

    /// Ends all connections again and again, until the manner is another one.
    fn flap(&self, period: Duration, change: u64) {
        loop {
            let mut state = self.lock();
            if state.change != change {
                return;
            }
            state.is_down = !state.is_down;
            state.end_all();
            drop(state);
            sleep(period);
        }
    }
}
