//! Who a client is.
//!
//! Drivers send a name and a password once, by HTTP's `Basic`, in a handshake or with a call, and get a token that they
//! send from then on. There are no passwords yet, as on the PostgreSQL port: a client is who it says it is, and its queries
//! run in that user's queue.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tonic::Status;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

/// The user of a client that does not say who it is.
const ANONYMOUS: &str = "anonymous";
/// Bytes of a user's name, as in PostgreSQL.
const MOST_NAME_BYTES: usize = 63;

/// Random tokens, and the users that they stand for.
pub struct Tokens {
    lifetime: Duration,
    capacity: usize,
    entries: Mutex<HashMap<Uuid, Token>>,
}

struct Token {
    user: String,
    used: Instant,
}

impl Tokens {
    /// At most `capacity` tokens, each forgotten when unused for `lifetime`.
    pub fn new(capacity: usize, lifetime: Duration) -> Self {
        Self { lifetime, capacity, entries: Mutex::default() }
    }

    /// The `authorization` by which a user is known from now on.
    pub fn issue(&self, user: String) -> Result<String, Status> {
        let token = Uuid::new_v4();
        let now = Instant::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, token| now.duration_since(token.used) < self.lifetime);
        if entries.len() >= self.capacity {
            return Err(Status::resource_exhausted(format!(
                "{} clients are logged in, which is the limit",
                self.capacity
            )));
        }
        entries.insert(token, Token { user, used: now });
        Ok(format!("Bearer {token}"))
    }

    /// The user of a call with these headers.
    pub fn user(&self, headers: &MetadataMap) -> Result<String, Status> {
        let Some(authorization) = headers.get("authorization") else { return Ok(ANONYMOUS.to_owned()) };
        let authorization = authorization.to_str().map_err(|_| unreadable())?;
        if let Some(credentials) = strip_scheme(authorization, "basic") {
            return user_of(credentials);
        }
        let token = strip_scheme(authorization, "bearer").and_then(|token| Uuid::parse_str(token).ok());
        let now = Instant::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let known = token.and_then(|token| entries.get_mut(&token));
        match known.filter(|token| now.duration_since(token.used) < self.lifetime) {
            Some(token) => {
                token.used = now;
                Ok(token.user.clone())
            }
            None => Err(Status::unauthenticated("the token is not known or has expired: log in again")),
        }
    }
}

fn strip_scheme<'a>(authorization: &'a str, scheme: &str) -> Option<&'a str> {
    let (found, rest) = authorization.trim().split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

/// The name in `name:password`, in Base64.
fn user_of(credentials: &str) -> Result<String, Status> {
    let decoded = STANDARD.decode(credentials).map_err(|_| unreadable())?;
    let decoded = String::from_utf8(decoded).map_err(|_| unreadable())?;
    let (user, _password) = decoded.split_once(':').ok_or_else(unreadable)?;
    if user.is_empty() || user.len() > MOST_NAME_BYTES || user.contains(char::is_control) {
        return Err(Status::unauthenticated(format!("a user's name has 1 to {MOST_NAME_BYTES} bytes")));
    }
    Ok(user.to_owned())
}

/// What it was is not told again: there may be a password in it.
fn unreadable() -> Status {
    Status::unauthenticated("the header authorization is neither Basic nor Bearer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &str) -> MetadataMap {
        let mut headers = MetadataMap::new();
        headers.insert("authorization", authorization.parse().expect("is a header"));
        headers
    }

    #[test]
    fn a_token_stands_for_its_user() {
        let tokens = Tokens::new(1, Duration::from_secs(60));
        let basic = format!("Basic {}", STANDARD.encode("ada:secret:with colon"));
        assert_eq!(tokens.user(&headers(&basic)).expect("is known"), "ada");
        let token = tokens.issue("ada".to_owned()).expect("is issued");
        assert_eq!(tokens.user(&headers(&token)).expect("is known"), "ada");
        assert_eq!(tokens.user(&MetadataMap::new()).expect("is nobody"), ANONYMOUS);
        assert!(tokens.issue("bob".to_owned()).is_err(), "there is room for one");
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_repeated() {
        let tokens = Tokens::new(1, Duration::ZERO);
        let expired = tokens.issue("ada".to_owned()).expect("is issued");
        let nobody = format!("Basic {}", STANDARD.encode(":x"));
        for wrong in [expired.as_str(), "Bearer secret", "Basic secret", "secret", &nobody] {
            let status = tokens.user(&headers(wrong)).expect_err(wrong);
            assert!(!status.message().contains("secret"), "{status}");
        }
    }
}
