//! Sessions that last for longer than a statement.
//!
//! A client that sets an option gets one, and a cookie by which it is known from then on, as with Arrow's
//! `ServerSessionMiddleware`. Clients without a cookie have a session for each statement.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tonic::Status;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use uuid::Uuid;

use crate::engine::Session;

/// The cookie's name, which is also that of Arrow's own servers.
const COOKIE: &str = "arrow_flight_session_id";

/// Random numbers, and the sessions that they stand for.
pub struct Sessions {
    lifetime: Duration,
    capacity: usize,
    entries: Mutex<HashMap<Uuid, Entry>>,
}

struct Entry {
    session: Arc<Session>,
    used: Instant,
}

impl Entry {
    /// Whether nobody has used it for `lifetime`, or for the session's own `idle_session_timeout`. A statement of it that
    /// runs, is prepared or waits to be fetched is a use.
    fn is_idle(&self, now: Instant, lifetime: Duration) -> bool {
        let own = match self.session.setting_number("idle_session_timeout") {
            0 => lifetime,
            timeout_ms => Duration::from_millis(timeout_ms).min(lifetime),
        };
        Arc::strong_count(&self.session) == 1 && now.duration_since(self.used) >= own
    }
}

impl Sessions {
    /// At most `capacity` sessions, each forgotten when unused for `lifetime`.
    pub fn new(capacity: usize, lifetime: Duration) -> Self {
        Self { lifetime, capacity, entries: Mutex::default() }
    }

    /// The session of a client with these headers; `None` if it has no cookie.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` for a session that is closed, has expired, or is another user's.
    pub fn of(&self, headers: &MetadataMap, user: &str) -> Result<Option<Arc<Session>>, Status> {
        let Some(cookie) = cookie(headers) else { return Ok(None) };
        let now = Instant::now();
        let id = Uuid::parse_str(cookie).map_err(|_| unknown())?;
        self.with(|entries| {
            let entry = entries.get_mut(&id).filter(|entry| entry.session.user() == user);
            let entry = entry.filter(|entry| !entry.is_idle(now, self.lifetime)).ok_or_else(unknown)?;
            entry.used = now;
            Ok(Some(Arc::clone(&entry.session)))
        })
    }

    /// Keeps a session, and gives the header `set-cookie` by which its client is known.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED` when as many are kept as may be.
    pub fn keep(&self, session: Arc<Session>) -> Result<AsciiMetadataValue, Status> {
        let id = Uuid::new_v4();
        let set_cookie = header(&format!("{COOKIE}={id}"))?;
        self.sweep();
        self.with(|entries| {
            if entries.len() >= self.capacity {
                return Err(Status::resource_exhausted(format!(
                    "clients have {} sessions, which is the limit: close some",
                    self.capacity
                )));
            }
            entries.insert(id, Entry { session, used: Instant::now() });
            Ok(set_cookie)
        })
    }

    /// Closes the session of a client with these headers, stops what runs in it, and gives the header `set-cookie` that
    /// makes the client forget it.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` if the client has none.
    pub fn close(&self, headers: &MetadataMap, user: &str) -> Result<AsciiMetadataValue, Status> {
        let session = self.of(headers, user)?.ok_or_else(|| Status::not_found("the client has no session"))?;
        self.with(|entries| entries.retain(|_, entry| !Arc::ptr_eq(&entry.session, &session)));
        session.cancel();
        forget_cookie()
    }

    /// Forgets sessions that nobody uses.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.with(|entries| entries.retain(|_, entry| !entry.is_idle(now, self.lifetime)));
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<Uuid, Entry>) -> T) -> T {
        f(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The session's number among the cookies of a request.
fn cookie(headers: &MetadataMap) -> Option<&str> {
    let texts = headers.get_all("cookie").iter().filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value.trim_matches('"')).find(|value| !value.is_empty())
}

fn header(text: &str) -> Result<AsciiMetadataValue, Status> {
    text.parse().map_err(|_| Status::internal("a cookie is no header"))
}

fn forget_cookie() -> Result<AsciiMetadataValue, Status> {
    header(&format!("{COOKIE}=; Max-Age=0"))
}

/// Goes to the client with the request to forget the cookie, so that what it does next is done without a session.
fn unknown() -> Status {
    let mut status = Status::not_found("the session is not known: it was closed or has expired; its settings are lost");
    if let Ok(forget) = forget_cookie() {
        status.metadata_mut().insert("set-cookie", forget);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(values: &[&str]) -> Option<String> {
        let mut headers = MetadataMap::new();
        for value in values {
            headers.append("cookie", value.parse().expect("is a header"));
        }
        cookie(&headers).map(str::to_owned)
    }

    #[test]
    fn the_sessions_cookie_is_found_among_others() {
        for found in [
            &["arrow_flight_session_id=x"][..],
            &["a=b; arrow_flight_session_id=x; c=d"],
            &["a=b;arrow_flight_session_id=\"x\""],
            &["a=b", "arrow_flight_session_id=x"],
            &["arrow_flight_session_id=; arrow_flight_session_id=x"],
        ] {
            assert_eq!(cookies(found).as_deref(), Some("x"), "{found:?}");
        }
        for absent in [&[][..], &["arrow_flight_session_id"], &["my_arrow_flight_session_id=x"], &["a=b=c"]] {
            assert_eq!(cookies(absent), None, "{absent:?}");
        }
    }

    #[test]
    fn an_unknown_session_is_refused_and_its_cookie_taken_back() {
        let sessions = Sessions::new(1, Duration::from_secs(60));
        for value in ["arrow_flight_session_id=no-number", &format!("arrow_flight_session_id={}", Uuid::new_v4())] {
            let mut headers = MetadataMap::new();
            headers.insert("cookie", value.parse().expect("is a header"));
            let status = sessions.of(&headers, "ada").map(|_| ()).expect_err(value);
            assert_eq!(status.code(), tonic::Code::NotFound);
            assert!(
                status.metadata().get("set-cookie").is_some_and(|value| value.to_str().unwrap().contains("Max-Age=0"))
            );
        }
        assert!(sessions.of(&MetadataMap::new(), "ada").expect("needs none").is_none());
    }
}
