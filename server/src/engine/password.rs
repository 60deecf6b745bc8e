//! Passwords, of which only SCRAM verifiers are kept: what proves that a client knows the password, and does not tell it.
//!
//! A verifier is written as PostgreSQL writes it, `SCRAM-SHA-256$iterations:salt$stored key:server key`
//! ([RFC 5803](https://www.rfc-editor.org/rfc/rfc5803)), so that `\password` of psql works, and roles can be copied.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramSecret, gen_salted_password};

const MECHANISM: &str = "SCRAM-SHA-256";
const KEY_BYTES: usize = 32;
/// More rounds than this would be a way to keep the service busy.
const MOST_ITERATIONS: usize = 1_000_000;

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    salt: Vec<u8>,
    iterations: usize,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl Verifier {
    /// The verifier of a password, with a salt of its own.
    pub fn of(password: &str) -> Self {
        Self::salted(password, uuid::Uuid::new_v4().as_bytes().to_vec(), SCRAM_ITERATIONS)
    }

    fn salted(password: &str, salt: Vec<u8>, iterations: usize) -> Self {
        let salted = gen_salted_password(password, &salt, iterations);
        match ScramSecret::verifier_from_salted_password(salt, salted, iterations) {
            ScramSecret::Verifier { salt, iterations, stored_key, server_key } => {
                Self { salt, iterations, stored_key, server_key }
            }
            // A salted password is good for whoever has it; it is never made here.
            ScramSecret::SaltedPassword { salt, .. } => {
                Self { salt, iterations, stored_key: Vec::new(), server_key: Vec::new() }
            }
        }
    }

    /// The verifier in PostgreSQL's form; `None` if the text has another form, as a plain password has.
    pub fn parse(text: &str) -> Option<Self> {
        let (parameters, keys) = text.strip_prefix(MECHANISM)?.strip_prefix('$')?.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text: &str| STANDARD.decode(text).ok().filter(|key| key.len() == KEY_BYTES);
        Some(Self {
            salt: STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?,
            iterations: iterations.parse().ok().filter(|count| (1..=MOST_ITERATIONS).contains(count))?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// A verifier that no password fits, always the same for one name: strangers cannot tell which names exist.
    pub fn nobody(name: &str, secret: &[u8]) -> Self {
        let of_name = Self::salted(name, secret.to_vec(), 1);
        let salt = of_name.stored_key.iter().take(16).copied().collect();
        let unknown = Self::of(&uuid::Uuid::new_v4().to_string());
        Self { salt, iterations: SCRAM_ITERATIONS, ..unknown }
    }

    /// Whether it is this password's. Takes some milliseconds, on purpose.
    pub fn is_of(&self, password: &str) -> bool {
        let other = Self::salted(password, self.salt.clone(), self.iterations);
        // All bytes are looked at, however many of them are right.
        let differences = self.stored_key.iter().zip(&other.stored_key).fold(0, |all, (a, b)| all | (a ^ b));
        differences == 0 && self.stored_key.len() == other.stored_key.len()
    }

    /// What the SCRAM exchange needs.
    pub fn secret(&self) -> ScramSecret {
        ScramSecret::Verifier {
            salt: self.salt.clone(),
            iterations: self.iterations,
            stored_key: self.stored_key.clone(),
            server_key: self.server_key.clone(),
        }
    }

    /// As it is kept.
    pub fn text(&self) -> String {
        let [salt, stored_key, server_key] =
            [&self.salt, &self.stored_key, &self.server_key].map(|bytes| STANDARD.encode(bytes));
        format!("{MECHANISM}${}:{salt}${stored_key}:{server_key}", self.iterations)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_knows_its_password_and_survives_being_text() {
        let verifier = Verifier::of("hunter2");
        let read = Verifier::parse(&verifier.text()).expect("is one");
        assert_eq!(read, verifier);
        assert!(read.is_of("hunter2") && !read.is_of("hunter3") && !read.is_of(""));
        assert_ne!(Verifier::of("hunter2"), verifier, "salts differ");
        assert!(!format!("{verifier:?}").contains(&verifier.text()[20..]));
    }

    /// Password and salt of RFC 7677's example; the keys as Python's hashlib makes them.
    #[test]
    fn the_keys_are_those_of_rfc_7677() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("is Base64");
        let verifier = Verifier::salted("pencil", salt, 4096);
        assert_eq!(
            verifier.text(),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn a_plain_password_is_no_verifier() {
        for text in ["", "hunter2", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096:c2FsdA==$c2hvcnQ=:c2hvcnQ="] {
            assert!(Verifier::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_name_without_a_role_has_always_the_same_salt() {
        let (first, second) = (Verifier::nobody("eve", b"secret"), Verifier::nobody("eve", b"secret"));
        assert_eq!((first.salt.clone(), first.iterations), (second.salt, second.iterations));
        assert_ne!(first.salt, Verifier::nobody("bob", b"secret").salt);
        assert!(!first.is_of("eve") && !first.is_of(""));
    }
}
