//! Who may look, and whose requests do something.
//!
//! A browser sends requests for any page that it shows, also for one of a stranger. Three things keep strangers out:
//!
//! - Nothing here tells a browser that pages of other origins may read answers or send headers of their own (CORS).
//! - What does something takes a header that only such permission would let another origin send, and is refused if the
//!   browser says that it comes from elsewhere.
//! - A stranger's name may be made to mean this machine (DNS rebinding), and then its page is of the same origin. Where no
//!   password is asked for, names other than those of this machine are therefore not answered to. A password is sent by
//!   browsers only to the name that it was typed in for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;

use super::Page;
use crate::basic_auth::basic_credentials;
use crate::engine::{LoginPolicy, MONITOR};
use crate::tls::Incoming;

/// The header that requests have which do something.
pub const OWN_HEADER: &str = "x-sluice-request";
/// Who a client is that does not say so, where nobody is asked for a password.
const DEFAULT_USER: &str = "sluice";
/// The page runs its own files only, sends to its own origin only, and nobody may show it in a frame.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Where a client is.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub SocketAddr);

impl Connected<IncomingStream<'_, Incoming>> for ClientAddress {
    fn connect_info(stream: IncomingStream<'_, Incoming>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Who sent a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user's name.
    pub user: String,
    /// Where the client is.
    pub address: SocketAddr,
    /// Whether it may see what others run.
    pub is_monitor: bool,
    /// Whether it may do everything.
    pub is_superuser: bool,
}

/// Finds out who asks, and refuses what does not come from the page itself or from a program.
pub async fn admit(
    State(page): State<Arc<Page>>,
    ConnectInfo(ClientAddress(address)): ConnectInfo<ClientAddress>,
    mut request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let roles = page.engine.roles();
    let login = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(basic_credentials);
    let user = match roles.policy() {
        LoginPolicy::Trust => {
            let host = host_of(headers);
            if !host.is_some_and(|host| page.answers_to(host)) {
                return misdirected(host.unwrap_or_default());
            }
            login.map_or_else(|| DEFAULT_USER.to_owned(), |(user, _)| user)
        }
        LoginPolicy::Password => {
            let Some((user, password)) = login else { return unknown("log in with a role and its password\n") };
            if let Err(error) = roles.check_password(&user, &password, &address.ip().to_string()) {
                return unknown(&format!("{error}\n"));
            }
            user
        }
    };
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    if !is_read && let Err(reason) = comes_from_here(headers) {
        return (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response();
    }
    let (is_monitor, is_superuser) = (roles.is_member(&user, MONITOR), roles.is_superuser(&user));
    request.extensions_mut().insert(Caller { user, address, is_monitor, is_superuser });
    next.run(request).await
}

/// Adds what browsers are to enforce.
pub async fn harden(request: Request, next: Next) -> Response {
    let is_kept = request.uri().path().starts_with("/assets/");
    let mut response = next.run(request).await;
    let mut set = |name, value| {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, CONTENT_POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    // Results and statements stay in no cache; files change with the binary.
    set(header::CACHE_CONTROL, if is_kept { "no-cache" } else { "no-store" });
    response
}

fn unknown(message: &str) -> Response {
    let realm = [(header::WWW_AUTHENTICATE, "Basic realm=\"Sluice\", charset=\"UTF-8\"")];
    (StatusCode::UNAUTHORIZED, realm, message.to_owned()).into_response()
}

fn misdirected(host: &str) -> Response {
    let host: String = host.chars().filter(|c| c.is_ascii_graphic()).take(100).collect();
    let message = format!(
        "this service asks for no password, and so answers only to an address, localhost or this machine's name, not to \
         \"{host}\"; --http-host NAME adds a name\n"
    );
    (StatusCode::MISDIRECTED_REQUEST, message).into_response()
}

/// Refuses what a page of another origin has a browser send.
fn comes_from_here(headers: &HeaderMap) -> Result<(), &'static str> {
    if !headers.contains_key(OWN_HEADER) {
        return Err("a request that does something has the header X-Sluice-Request: 1");
    }
    // Browsers set it, and scripts cannot.
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return Err("the request comes from a page of another site");
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let authority = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match (origin, authority) {
        (Some((_, origin)), Some(authority)) if origin.eq_ignore_ascii_case(authority) => Ok(()),
        _ => Err("the request comes from a page of another origin"),
    }
}

/// The name or address that the client knows this service by, without its port.
fn host_of(headers: &HeaderMap) -> Option<&str> {
    let authority = headers.get(header::HOST)?.to_str().ok()?.trim();
    match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(address, _)| address),
        None => Some(authority.rsplit_once(':').map_or(authority, |(host, _)| host)),
    }
}

/// The names that a service answers to where it asks for no password, besides addresses.
#[derive(Debug, Clone, Default)]
pub struct Names(Vec<String>);

impl Names {
    /// `localhost`, this machine's name, and one that was configured.
    pub fn new(configured: Option<&str>) -> Self {
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let all = ["localhost", machine.trim(), configured.unwrap_or_default()];
        Self(all.into_iter().filter(|name| !name.is_empty()).map(str::to_ascii_lowercase).collect())
    }

    /// Whether a host is an address or one of the names.
    pub fn has(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        // No page can be of an address's origin but one that was served from there.
        host.parse::<IpAddr>().is_ok() || host.ends_with(".localhost") || self.0.contains(&host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_does_something_comes_from_the_page_or_a_program() {
        let sent = |of: &[(&'static str, &'static str)]| {
            comes_from_here(&headers(&[&[("host", "127.0.0.1:8080")], of].concat()))
        };
        assert!(sent(&[("x-sluice-request", "1")]).is_ok());
        let page = [("x-sluice-request", "1"), ("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:8080")];
        assert!(sent(&page).is_ok());
        assert!(sent(&[]).is_err());
        for site in ["cross-site", "same-site", "none"] {
            assert!(sent(&[("x-sluice-request", "1"), ("sec-fetch-site", site)]).is_err());
        }
        for origin in ["null", "http://evil.example", "http://127.0.0.1:8081", "http://127.0.0.1"] {
            assert!(sent(&[("x-sluice-request", "1"), ("origin", origin)]).is_err());
        }
    }

    #[test]
    fn names_of_others_are_not_answered_to() {
        let names = Names::new(Some("Sluice.example"));
        for host in ["127.0.0.1", "::1", "10.1.2.3", "localhost", "LOCALHOST.", "a.localhost", "sluice.example"] {
            assert!(names.has(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "notlocalhost"] {
            assert!(!names.has(host), "{host}");
        }
    }

    #[test]
    fn a_port_is_no_part_of_the_name() {
        for (authority, host) in [("localhost:8080", "localhost"), ("[::1]:8080", "::1"), ("10.0.0.1", "10.0.0.1")] {
            assert_eq!(host_of(&headers(&[("host", authority)])), Some(host));
        }
    }
}
