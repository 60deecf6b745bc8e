//! Results as several endpoints, which a client fetches side by side from the executors that made them.
//!
//! Where executors serve clients, a query in stages runs when its endpoints are asked for: Ballista's stages have a
//! barrier, so that no row is there before the last stage has ended. Each endpoint names an executor first and this
//! service second, by which a client that cannot reach the executor gets the same rows. Every other query has one
//! endpoint, and runs when its ticket is redeemed.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::future::{BoxFuture, ready};
use futures::{FutureExt, Stream, TryStreamExt};
use sluice_executor::results::ticket::{MOST_PARTS, wrap};
use sluice_executor::results::{Reachable, ResultPart, ResultTicket, TicketError};
use tonic::Status;

use super::handles::Planned;
use super::portable;
use super::service::status;
use crate::engine::{Engine, EngineError, HeldResult, Wire};

/// A smaller result is fetched through this service: connections to executors would take longer than its rows.
const LEAST_BYTES: u64 = 1 << 20;
/// Partitions of one executor share an endpoint until they have so many bytes together.
const LEAST_ENDPOINT_BYTES: u64 = 4 << 20;
/// The place that stands for the connection over which the endpoints were asked for.
const SAME_CONNECTION: &str = "arrow-flight-reuse-connection://?";

/// The endpoints of a statement that has been run for them; `None` for one that runs when its ticket is redeemed.
pub fn of<'a>(
    engine: &'a Engine,
    planned: &'a Planned,
    descriptor: &'a FlightDescriptor,
    wire: Wire,
) -> BoxFuture<'a, Result<Option<FlightInfo>, Status>> {
    let [parameters] = planned.runs.as_slice() else { return ready(Ok(None)).boxed() };
    let left = planned.session.leave_on_executors(&planned.prepared, parameters.clone(), wire);
    let is_ordered = planned.prepared.is_ordered();
    async move {
        let held = left.await.map_err(status)?;
        held.map(|held| info(engine, &held, descriptor, is_ordered)).transpose()
    }
    .boxed()
}

fn info(
    engine: &Engine,
    held: &HeldResult,
    descriptor: &FlightDescriptor,
    is_ordered: bool,
) -> Result<FlightInfo, Status> {
    let schema = portable::schema(&held.schema);
    // Executors announce the columns that they wrote; clients take no others than those that were announced here.
    let may_be_direct = portable::schema(&held.written) == schema;
    let mut info = FlightInfo::new()
        .try_with_schema(&schema)
        .map_err(|error| Status::internal(error.to_string()))?
        .with_descriptor(descriptor.clone())
        .with_ordered(is_ordered)
        .with_total_records(held.rows.and_then(|rows| i64::try_from(rows).ok()).unwrap_or(-1));
    let parts = held.parts.iter().map(|part| Group {
        place: part.reachable.filter(|_| may_be_direct).map(|reachable| (part.host.as_str(), reachable)),
        parts: vec![part.file],
        bytes: part.bytes,
    });
    for group in groups(parts.collect()) {
        info = info.with_endpoint(endpoint(engine, held, group)?);
    }
    Ok(info)
}

/// The columns and rows of a ticket of [`of`] that a client redeems here.
pub fn redeem(
    engine: &Engine,
    sealed: &[u8],
    user: &str,
) -> Result<(SchemaRef, impl Stream<Item = Result<RecordBatch, Status>> + Send + use<>), Status> {
    let ticket = open(engine, sealed)?;
    if ticket.user != user {
        return Err(Status::permission_denied("the ticket belongs to another user"));
    }
    let held = engine.held().get(&ticket.query, user).ok_or_else(|| {
        Status::not_found("the rows have been fetched already, or are no longer kept: run the statement again")
    })?;
    let schema = portable::schema(&held.schema);
    let target = Arc::clone(&schema);
    let rows = held.read(&ticket.parts).map_err(|error| status(EngineError::from(error)));
    let batches = rows.and_then(move |batch| {
        let batch = portable::batch(&batch, &target).map_err(|error| Status::internal(error.to_string()));
        ready(batch)
    });
    Ok((schema, batches))
}

/// Whether a handle in a ticket is one of [`of`]; the others are random numbers.
pub fn is_sealed(handle: &[u8]) -> bool {
    handle.len() > size_of::<uuid::Uuid>()
}

/// Removes the result that a handle of [`of`] is for, before its time is over; tells whether the user had one.
pub fn give_up(engine: &Engine, handle: &[u8], user: &str) -> bool {
    is_sealed(handle) && open(engine, handle).is_ok_and(|ticket| engine.held().give_up(&ticket.query, user))
}

fn open(engine: &Engine, sealed: &[u8]) -> Result<ResultTicket, Status> {
    let secret = engine.ticket_secret().ok_or(TicketError::Unknown);
    let opened = secret.and_then(|secret| ResultTicket::open(sealed, secret, SystemTime::now()));
    opened.map_err(|error| Status::unauthenticated(error.to_string()))
}

/// Partitions that share an endpoint.
#[derive(Debug, PartialEq, Eq)]
struct Group<'a> {
    /// The host and port of the executor that has them; `None` if they are fetched here.
    place: Option<(&'a str, Reachable)>,
    parts: Vec<ResultPart>,
    bytes: u64,
}

/// A group for each partition that is large, and for the small ones of each executor together.
fn groups(mut parts: Vec<Group<'_>>) -> Vec<Group<'_>> {
    let is_small = parts.iter().map(|part| part.bytes).sum::<u64>() < LEAST_BYTES;
    if is_small {
        parts.iter_mut().for_each(|part| part.place = None);
    }
    // Only one partition has rows in an order; those of several may come in any.
    parts.sort_by_key(|part| part.place.map(|(host, reachable)| (host, reachable.port)));
    let mut groups: Vec<Group<'_>> = Vec::new();
    for part in parts {
        match groups.last_mut() {
            Some(group)
                if group.place == part.place
                    && group.parts.len() < MOST_PARTS
                    && (is_small || group.bytes < LEAST_ENDPOINT_BYTES) =>
            {
                group.parts.extend(part.parts);
                group.bytes += part.bytes;
            }
            _ => groups.push(part),
        }
    }
    if groups.is_empty() {
        // A client that gets no endpoint gets no schema.
        groups.push(Group { place: None, parts: Vec::new(), bytes: 0 });
    }
    groups
}

fn endpoint(engine: &Engine, held: &HeldResult, group: Group<'_>) -> Result<FlightEndpoint, Status> {
    let expires = held.expires.duration_since(UNIX_EPOCH).unwrap_or_default();
    let ticket = ResultTicket {
        query: held.query_id.clone(),
        user: held.user.clone(),
        job: held.job_id.clone(),
        expires_ms: u64::try_from(expires.as_millis()).unwrap_or(u64::MAX),
        parts: group.parts,
    };
    let secret = engine.ticket_secret().ok_or_else(|| Status::internal("there is no secret for tickets"))?;
    let sealed = ticket.seal(secret).map_err(|error| Status::internal(error.to_string()))?;
    let mut endpoint = FlightEndpoint::new().with_ticket(Ticket::new(wrap(sealed)));
    if let Some((host, reachable)) = group.place {
        endpoint = endpoint.with_location(location(host, reachable)).with_location(SAME_CONNECTION);
    }
    Ok(endpoint.with_expiration_time(held.expires.into()))
}

fn location(host: &str, reachable: Reachable) -> String {
    let scheme = if reachable.tls { "grpc+tls" } else { "grpc" };
    match host.contains(':') {
        true => format!("{scheme}://[{host}]:{}", reachable.port),
        false => format!("{scheme}://{host}:{}", reachable.port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Reachable = Reachable { port: 50052, tls: true };

    fn part(host: &str, partition: usize, bytes: u64) -> Group<'_> {
        let file = ResultPart { stage: 1, partition, file: Some(0) };
        Group { place: Some((host, PORT)), parts: vec![file], bytes }
    }

    /// The hosts, and the partitions that are fetched there.
    fn grouped(parts: Vec<Group<'_>>) -> Vec<(&str, Vec<usize>)> {
        let numbers = |group: &Group<'_>| group.parts.iter().map(|part| part.partition).collect();
        groups(parts).iter().map(|group| (group.place.map_or("here", |(host, _)| host), numbers(group))).collect()
    }

    #[test]
    fn large_partitions_have_endpoints_of_their_own_and_small_ones_share() {
        const LARGE: u64 = LEAST_ENDPOINT_BYTES;
        let parts =
            vec![part("a", 0, LARGE), part("b", 1, 1), part("a", 2, LARGE), part("b", 3, 1), part("b", 4, LARGE)];
        assert_eq!(grouped(parts), [("a", vec![0]), ("a", vec![2]), ("b", vec![1, 3, 4])]);
    }

    #[test]
    fn a_small_result_is_fetched_here() {
        assert_eq!(grouped(vec![part("a", 0, 10), part("b", 1, 10), part("a", 2, 10)]), [("here", vec![0, 1, 2])]);
        assert_eq!(grouped(Vec::new()), [("here", vec![])]);
    }

    #[test]
    fn a_ticket_has_only_so_many_partitions() {
        let parts = (0..MOST_PARTS + 1).map(|partition| part("a", partition, LEAST_BYTES / MOST_PARTS as u64));
        let sizes: Vec<usize> = grouped(parts.collect()).iter().map(|(_, parts)| parts.len()).collect();
        assert_eq!(sizes, [MOST_PARTS, 1]);
    }

    #[test]
    fn places_are_written_as_uris() {
        assert_eq!(location("db1", PORT), "grpc+tls://db1:50052");
        assert_eq!(location("::1", Reachable { tls: false, ..PORT }), "grpc://[::1]:50052");
    }
}
