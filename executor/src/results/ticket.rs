//! Tickets by which clients fetch parts of a result.
//!
//! A ticket says which files of a finished job it is for, until when, and whose they are, and leads with a code that
//! only coordinator and executors can compute. So an executor serves a client that it knows nothing of, and asks nobody.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow_flight::sql::{Any, ProstMessageExt, TicketStatementQuery};
use prost::Message;
use prost::bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::peer::ClusterSecret;

/// What the code of a ticket is for; the number is the version of the format.
const CONTEXT: &str = "result ticket 1";
/// Bytes of the code that leads a ticket.
const MAC_BYTES: usize = 32;
/// Bytes of the longest ticket; what is longer is refused before a code over it is computed.
const MOST_BYTES: usize = 64 << 10;
/// Parts that fit in a ticket, whatever their numbers.
pub const MOST_PARTS: usize = 256;

/// Why a ticket is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It is no ticket of this cluster, or somebody changed it.
    #[error("that is no ticket of this service: run the statement again")]
    Unknown,
    /// Its time is over.
    #[error("the ticket has expired: run the statement again")]
    Expired,
}

/// One file of a job's last stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultPart {
    /// The stage that wrote it.
    #[serde(rename = "s")]
    pub stage: usize,
    /// The partition that it is.
    #[serde(rename = "p")]
    pub partition: usize,
    /// The task that wrote it.
    #[serde(rename = "f")]
    pub file: Option<u64>,
}

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultTicket {
    /// The query that the rows are of.
    pub query: String,
    /// Who ran it.
    pub user: String,
    /// The scheduler's job.
    pub job: String,
    /// When the ticket's time is over, in milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// The files, in the order of their rows.
    pub parts: Vec<ResultPart>,
}

impl ResultTicket {
    /// The ticket as clients carry it.
    ///
    /// # Errors
    ///
    /// When it cannot be written down or is too long for a ticket.
    pub fn seal(&self, secret: &ClusterSecret) -> Result<Vec<u8>, TicketError> {
        let said = serde_json::to_vec(self).map_err(|_| TicketError::Unknown)?;
        let mut bytes = secret.mac(CONTEXT, &said).to_vec();
        bytes.extend(said);
        if bytes.len() > MOST_BYTES { Err(TicketError::Unknown) } else { Ok(bytes) }
    }

    /// What a ticket says that a client brings at `now`. Nothing of it is read before its code has been checked.
    ///
    /// # Errors
    ///
    /// When its code is not right, and when it has expired.
    pub fn open(bytes: &[u8], secret: &ClusterSecret, now: SystemTime) -> Result<Self, TicketError> {
        let (mac, said) = bytes.split_at_checked(MAC_BYTES).ok_or(TicketError::Unknown)?;
        if bytes.len() > MOST_BYTES || !secret.verify(CONTEXT, said, mac) {
            return Err(TicketError::Unknown);
        }
        let ticket: Self = serde_json::from_slice(said).map_err(|_| TicketError::Unknown)?;
        if now >= ticket.expires() { Err(TicketError::Expired) } else { Ok(ticket) }
    }

    /// When the ticket's time is over.
    pub fn expires(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.expires_ms)
    }
}

/// A ticket as Flight SQL's clients send it.
pub fn wrap(sealed: Vec<u8>) -> Vec<u8> {
    TicketStatementQuery { statement_handle: sealed.into() }.as_any().encode_to_vec()
}

/// What a client of Flight SQL sends; `None` for what executors send each other.
pub fn unwrap(ticket: &[u8]) -> Option<Bytes> {
    let any = Any::decode(ticket).ok()?;
    if any.type_url != TicketStatementQuery::type_url() {
        return None;
    }
    TicketStatementQuery::decode(any.value).ok().map(|ticket| ticket.statement_handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(expires_ms: u64) -> ResultTicket {
        let parts = vec![ResultPart { stage: 2, partition: 0, file: Some(7) }];
        ResultTicket { query: "q".to_owned(), user: "ann".to_owned(), job: "j".to_owned(), expires_ms, parts }
    }

    fn at(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    #[test]
    fn a_ticket_is_good_until_it_expires() {
        let secret = ClusterSecret::random().expect("random numbers");
        let sealed = ticket(1_000).seal(&secret).expect("is sealed");
        assert_eq!(ResultTicket::open(&sealed, &secret, at(999)), Ok(ticket(1_000)));
        assert_eq!(ResultTicket::open(&sealed, &secret, at(1_000)), Err(TicketError::Expired));
        assert_eq!(unwrap(&wrap(sealed.clone())).as_deref(), Some(sealed.as_slice()));
        assert_eq!(unwrap(&sealed), None, "no client of Flight SQL sends that");
    }

    #[test]
    fn every_changed_byte_makes_it_worthless() {
        let secret = ClusterSecret::random().expect("random numbers");
        let sealed = ticket(1_000).seal(&secret).expect("is sealed");
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(ResultTicket::open(&changed, &secret, at(0)), Err(TicketError::Unknown), "byte {index}");
            assert_eq!(ResultTicket::open(&sealed[..index], &secret, at(0)), Err(TicketError::Unknown));
        }
        let other = ClusterSecret::random().expect("random numbers");
        assert_eq!(ResultTicket::open(&sealed, &other, at(0)), Err(TicketError::Unknown), "another cluster's");
    }

    #[test]
    fn as_many_parts_as_are_allowed_fit() {
        let secret = ClusterSecret::random().expect("random numbers");
        let part = ResultPart { stage: usize::MAX, partition: usize::MAX, file: Some(u64::MAX) };
        let ticket = ResultTicket { parts: vec![part; MOST_PARTS], ..ticket(u64::MAX / 2) };
        ticket.seal(&secret).expect("fits");
    }
}
