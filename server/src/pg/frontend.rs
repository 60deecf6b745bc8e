//! Messages from a client, taken apart strictly.
//!
//! The `pgwire` crate's decoders index past the end of a lying message (a panic), read on into the
//! next one, and replace invalid UTF-8 silently. A statement must be what the client sent or an
//! error, so bodies are read here, one exact frame at a time.

use bytes::{Buf, Bytes};

use crate::engine::{EngineError, SqlState};

/// Columns or parameters of one message; PostgreSQL's own limit is a signed 16-bit count.
const MAX_COUNT: usize = 65_535;

/// One message of a started connection.
#[derive(Debug, PartialEq)]
pub enum Frontend {
    Query {
        sql: String,
    },
    Parse {
        name: String,
        sql: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe {
        target: Target,
        name: String,
    },
    Execute {
        portal: String,
        max_rows: i32,
    },
    Close {
        target: Target,
        name: String,
    },
    Flush,
    Sync,
    Terminate,
    /// `CopyData`, `CopyDone`, `CopyFail` outside of a copy: PostgreSQL ignores them, so do we.
    StrayCopy,
    FunctionCall,
}

/// Parameter values for a prepared statement.
#[derive(Debug, PartialEq)]
pub struct Bind {
    pub portal: String,
    pub statement: String,
    pub parameter_formats: Vec<i16>,
    pub parameters: Vec<Option<Bytes>>,
    pub result_formats: Vec<i16>,
}

/// What `Describe` and `Close` are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Statement,
    Portal,
}

/// Why a message could not be read.
#[derive(Debug)]
pub enum DecodeError {
    /// The connection can go on: the frame was whole, its text was not.
    Recoverable(EngineError),
    /// The two sides no longer agree on the protocol.
    Fatal(EngineError),
}

/// Whether messages of this type belong to the extended protocol, whose errors skip to `Sync`.
pub fn is_extended(kind: u8) -> bool {
    matches!(kind, b'P' | b'B' | b'D' | b'E' | b'C' | b'H')
}

/// Reads the message of type `kind` whose body is exactly `body`.
pub fn decode(kind: u8, body: Bytes) -> Result<Frontend, DecodeError> {
    let mut reader = Reader { body };
    let message = match kind {
        b'Q' => Frontend::Query { sql: reader.string()? },
        b'P' => {
            let name = reader.string()?;
            let sql = reader.string()?;
            let count = reader.count(4)?;
            let types = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
            Frontend::Parse { name, sql, types }
        }
        b'B' => Frontend::Bind(reader.bind()?),
        b'D' => Frontend::Describe { target: reader.target()?, name: reader.string()? },
        b'C' => Frontend::Close { target: reader.target()?, name: reader.string()? },
        b'E' => Frontend::Execute { portal: reader.string()?, max_rows: reader.i32()? },
        b'H' => Frontend::Flush,
        b'S' => Frontend::Sync,
        b'X' => Frontend::Terminate,
        b'F' => return Ok(Frontend::FunctionCall),
        b'd' | b'c' | b'f' => return Ok(Frontend::StrayCopy),
        other => return Err(fatal(format!("invalid frontend message type {other}"))),
    };
    if reader.body.has_remaining() {
        return Err(fatal("invalid message format: bytes left over".to_owned()));
    }
    Ok(message)
}

fn fatal(message: String) -> DecodeError {
    DecodeError::Fatal(EngineError::new(SqlState::PROTOCOL_VIOLATION, message))
}

struct Reader {
    body: Bytes,
}

impl Reader {
    fn string(&mut self) -> Result<String, DecodeError> {
        let Some(end) = self.body.iter().position(|byte| *byte == 0) else {
            return Err(fatal("invalid string in message".to_owned()));
        };
        let text = self.body.split_to(end);
        self.body.advance(1);
        String::from_utf8(text.into()).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let byte = error.as_bytes().get(at).copied().unwrap_or_default();
            DecodeError::Recoverable(EngineError::new(
                SqlState::INVALID_ENCODING,
                format!("invalid byte sequence for encoding \"UTF8\": 0x{byte:02x}"),
            ))
        })
    }

    fn target(&mut self) -> Result<Target, DecodeError> {
        match self.u8()? {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            other => Err(fatal(format!("invalid subtype {other} of a Describe or Close message"))),
        }
    }

    fn bind(&mut self) -> Result<Bind, DecodeError> {
        let portal = self.string()?;
        let statement = self.string()?;
        let count = self.count(2)?;
        let parameter_formats = (0..count).map(|_| self.i16()).collect::<Result<_, _>>()?;
        let count = self.count(4)?;
        let parameters = (0..count).map(|_| self.value()).collect::<Result<_, _>>()?;
        let count = self.count(2)?;
        let result_formats = (0..count).map(|_| self.i16()).collect::<Result<_, _>>()?;
        Ok(Bind { portal, statement, parameter_formats, parameters, result_formats })
    }

    /// A count of things of at least `item_bytes` each, which must be there.
    fn count(&mut self, item_bytes: usize) -> Result<usize, DecodeError> {
        let count = usize::from(self.u16()?);
        if count > MAX_COUNT || count * item_bytes > self.body.remaining() {
            return Err(too_short());
        }
        Ok(count)
    }

    /// A length and its bytes; a length of -1 is NULL.
    fn value(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        match usize::try_from(length) {
            Ok(length) if length <= self.body.remaining() => Ok(Some(self.body.split_to(length))),
            _ => Err(too_short()),
        }
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.body.try_get_u8().map_err(|_| too_short())
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.body.try_get_u16().map_err(|_| too_short())
    }

    fn i16(&mut self) -> Result<i16, DecodeError> {
        self.body.try_get_i16().map_err(|_| too_short())
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.body.try_get_u32().map_err(|_| too_short())
    }

    fn i32(&mut self) -> Result<i32, DecodeError> {
        self.body.try_get_i32().map_err(|_| too_short())
    }
}

fn too_short() -> DecodeError {
    fatal("insufficient data left in message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_is_read_to_its_last_byte() {
        let body = b"\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\0";
        let Ok(Frontend::Bind(bind)) = decode(b'B', Bytes::from_static(body)) else { panic!("a bind") };
        assert_eq!(bind.statement, "s");
        assert_eq!(bind.parameters, vec![Some(Bytes::from_static(b"x")), None]);
    }

    #[test]
    fn lying_lengths_end_the_connection_and_panic_nowhere() {
        let whole: &[u8] = b"\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\0";
        for kind in [b'Q', b'P', b'B', b'D', b'C', b'E'] {
            for cut in 0..whole.len() {
                let _ = decode(kind, Bytes::copy_from_slice(&whole[..cut]));
            }
        }
        let lying = b"\0\0\0\0\0\x01\x7f\xff\xff\xff";
        assert!(matches!(decode(b'B', Bytes::from_static(lying)), Err(DecodeError::Fatal(_))));
    }

    #[test]
    fn invalid_utf8_leaves_the_connection_up() {
        let Err(DecodeError::Recoverable(error)) = decode(b'Q', Bytes::from_static(b"select '\xff'\0")) else {
            panic!("recoverable");
        };
        assert_eq!(error.state, SqlState::INVALID_ENCODING);
    }
}
