//! The trace that a call belongs to, by its header `traceparent` ([W3C](https://www.w3.org/TR/trace-context/)).

use tonic::metadata::MetadataMap;

use crate::engine::{Session, TRACE_PARENT};

/// Has the session's statements belong to the trace that the call's headers name, if they name one.
pub fn follow(session: &Session, headers: &MetadataMap) {
    if let Some(value) = headers.get(TRACE_PARENT).and_then(|value| value.to_str().ok()) {
        session.set_trace_parent(Some(value));
    }
}
