//! Who may cancel whom: `CancelRequest` comes on a connection of its own with a number and a secret.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use crate::engine::Session;

/// Bytes of the secret since protocol 3.2; before, there is room for four.
const LONG_KEY_BYTES: usize = 32;

/// The sessions that can be cancelled.
#[derive(Default)]
pub struct CancelRegistry {
    sessions: Mutex<HashMap<i32, Entry>>,
}

struct Entry {
    secret: Bytes,
    session: Weak<Session>,
}

/// A session's place in the registry, given back when dropped.
pub struct Registration {
    registry: Arc<CancelRegistry>,
    /// The number that clients know as the backend's process.
    pub number: i32,
    /// What a client must know besides.
    pub secret: Bytes,
}

/// How long a secret the client's protocol version can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLength {
    /// Four bytes, protocol 3.0.
    Short,
    /// 32 bytes, protocol 3.2.
    Long,
}

impl CancelRegistry {
    /// Enters a session under its number and a new secret.
    pub fn register(self: &Arc<Self>, session: &Arc<Session>, length: KeyLength) -> Registration {
        let secret = new_secret(length);
        let number = session.backend_pid();
        self.lock().insert(number, Entry { secret: secret.clone(), session: Arc::downgrade(session) });
        Registration { registry: Arc::clone(self), number, secret }
    }

    /// Cancels what the session under `number` runs, if the secret is right. Nobody is told which it was.
    pub fn cancel(&self, number: i32, secret: &[u8]) {
        let session = match self.lock().get(&number) {
            Some(entry) if equal_in_constant_time(&entry.secret, secret) => entry.session.upgrade(),
            _ => None,
        };
        if let Some(session) = session {
            session.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.number);
    }
}

/// Random bytes out of version 4 UUIDs, leaving out the two bytes that hold version and variant.
fn new_secret(length: KeyLength) -> Bytes {
    let wanted = match length {
        KeyLength::Short => 4,
        KeyLength::Long => LONG_KEY_BYTES,
    };
    let mut secret = Vec::with_capacity(wanted + 14);
    while secret.len() < wanted {
        let random = uuid::Uuid::new_v4().into_bytes();
        secret.extend(random.iter().enumerate().filter(|(index, _)| ![6, 8].contains(index)).map(|(_, byte)| *byte));
    }
    secret.truncate(wanted);
    secret.into()
}

fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_their_length_and_differ() {
        assert_eq!(new_secret(KeyLength::Short).len(), 4);
        assert_eq!(new_secret(KeyLength::Long).len(), 32);
        assert_ne!(new_secret(KeyLength::Long), new_secret(KeyLength::Long));
        assert!(equal_in_constant_time(b"abcd", b"abcd"));
        assert!(!equal_in_constant_time(b"abcd", b"abce"));
        assert!(!equal_in_constant_time(b"abcd", b"abc"));
    }
}
