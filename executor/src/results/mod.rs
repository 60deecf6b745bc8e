//! Rows of results for clients, straight from the executor that made them.
//!
//! A client that wants a large result gets tickets from the coordinator and fetches the rows here, on a port of its own:
//! the ports that peers use are for peers. The ticket is all that the client has to show, and all that it can ask for.
//!
//! - [`ticket`]: what a ticket says, and how it is known to be one
//! - [`rows`]: the rows that it is for
//! - [`service`]: Arrow Flight's service with the one call that there is

pub mod rows;
pub mod service;
pub mod ticket;

pub use service::{ClientPort, Reachable, ResultService};
pub use ticket::{ResultPart, ResultTicket, TicketError};
