//! A limit on how many threads do something at a time.

use std::sync::{Condvar, Mutex};

/// Lets a fixed number of threads through at a time.
#[derive(Debug)]
pub struct Gate {
    free: Mutex<usize>,
    freed: Condvar,
}

/// The right to be inside, until dropped.
#[derive(Debug)]
pub struct Pass<'a>(&'a Gate);

impl Gate {
    /// A gate for so many at a time.
    pub const fn new(width: usize) -> Self {
        Self { free: Mutex::new(width), freed: Condvar::new() }
    }

    /// Waits for a place.
    pub fn enter(&self) -> Pass<'_> {
        let free = self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(|poisoned| poisoned.into_inner());
        *free -= 1;
        Pass(self)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += 1;
        self.0.freed.notify_one();
    }
}
