//! A slow road to a server: everything passes, a while later.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::node::Node;
use crate::ports::Port;

/// A proxy that runs until the process ends.
#[derive(Debug)]
pub struct SlowRoad {
    port: Port,
}

impl SlowRoad {
    /// A port of 127.0.0.1.
    pub fn reserve() -> Result<Self> {
        Ok(Self { port: Port::reserve()? })
    }

    /// Its number.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Begins to pass connections on to the server, with a delay in each direction.
    pub fn lead_to(&self, server: &Node, delay: Duration) -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", self.port()))?;
        let target = server.address();
        spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&target) else {
                    continue;
                };
                if let (Ok(client_end), Ok(server_end)) = (client.try_clone(), server.try_clone()) {
                    carry(client, server_end, delay);
                    carry(server, client_end, delay);
                }
            }
        });
        Ok(())
    }
}

/// Carries one direction. Each piece leaves a fixed time after it came, however many are under way.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    spawn(move || {
        for (due, bytes) in receiver {
            sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
