//! Who a client is.
//!
//! Drivers send a name and a password once, by HTTP's `Basic`, in a handshake or with a call, and get a token that they
//! send from then on. Where nobody is asked for a password, a client is who it says it is.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use uuid::Uuid;

use crate::basic_auth::{after_scheme, basic_credentials};
use crate::engine::{Engine, EngineError, LoginPolicy};

/// The user of a client that does not say who it is, where it need not.
const ANONYMOUS: &str = "anonymous";
/// Bytes of a user's name, as in PostgreSQL.
const MOST_NAME_BYTES: usize = 63;

/// Random tokens, and the users that they stand for.
pub struct Tokens {
    engine: Arc<Engine>,
    issued: Issued,
}

/// Tokens that were issued.
struct Issued {
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
    pub fn new(engine: Arc<Engine>, capacity: usize, lifetime: Duration) -> Self {
        Self { engine, issued: Issued { lifetime, capacity, entries: Mutex::default() } }
    }

    /// The `authorization` by which a user is known from now on.
    pub fn issue(&self, user: String) -> Result<String, Status> {
        self.issued.add(user)
    }

    /// The user of a call with these headers, from this address.
    ///
    /// # Errors
    ///
    /// `UNAUTHENTICATED` for a wrong password, an unknown token, or none where clients have to say who they are.
    pub fn user(&self, headers: &MetadataMap, address: Option<SocketAddr>) -> Result<String, Status> {
        let roles = self.engine.roles();
        let Some(authorization) = headers.get("authorization") else {
            return match roles.policy() {
                LoginPolicy::Trust => Ok(ANONYMOUS.to_owned()),
                LoginPolicy::Password => Err(Status::unauthenticated("log in with a user's name and password")),
            };
        };
        let authorization = authorization.to_str().map_err(|_| unreadable())?;
        if after_scheme(authorization, "basic").is_none() {
            return self.issued.user(authorization);
        }
        let (user, password) = basic_credentials(authorization).ok_or_else(unreadable)?;
        if user.is_empty() || user.len() > MOST_NAME_BYTES || user.contains(char::is_control) {
            return Err(Status::unauthenticated(format!("a user's name has 1 to {MOST_NAME_BYTES} bytes")));
        }
        let place = address.map_or_else(String::new, |address| address.ip().to_string());
        let refused = |error: EngineError| Status::unauthenticated(error.to_string());
        roles.check_password(&user, &password, &place).map_err(refused)?;
        Ok(user)
    }

    /// Lets calls of superusers through, for services that act for everybody.
    pub fn superusers_only(self: Arc<Self>) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone {
        move |request| {
            let user = self.user(request.metadata(), request.remote_addr())?;
            if self.engine.roles().is_superuser(&user) {
                return Ok(request);
            }
            Err(Status::permission_denied("only a superuser may take offers for a framework"))
        }
    }
}

impl Issued {
    fn add(&self, user: String) -> Result<String, Status> {
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

    fn user(&self, authorization: &str) -> Result<String, Status> {
        let token = after_scheme(authorization, "bearer").ok_or_else(unreadable)?;
        let token = Uuid::parse_str(token).ok();
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

/// What it was is not told again: there may be a password in it.
fn unreadable() -> Status {
    Status::unauthenticated("the header authorization is neither Basic nor Bearer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(lifetime: Duration) -> Issued {
        Issued { lifetime, capacity: 1, entries: Mutex::default() }
    }

    #[test]
    fn a_token_stands_for_its_user() {
        let tokens = issued(Duration::from_secs(60));
        let token = tokens.add("ada".to_owned()).expect("is issued");
        assert_eq!(tokens.user(&token).expect("is known"), "ada");
        assert!(tokens.add("bob".to_owned()).is_err(), "there is room for one");
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_repeated() {
        let tokens = issued(Duration::ZERO);
        let expired = tokens.add("ada".to_owned()).expect("is issued");
        for wrong in [expired.as_str(), "Bearer secret", "secret"] {
            let status = tokens.user(wrong).expect_err(wrong);
            assert!(!status.message().contains("secret"), "{status}");
        }
    }
}
