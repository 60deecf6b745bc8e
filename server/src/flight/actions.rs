//! Actions beyond Flight SQL's own: sessions, cancelling, and keeping tickets for longer.

use arrow_flight::sql::{Any, Command};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightEndpoint, FlightInfo,
    RenewFlightEndpointRequest,
};
use futures::{StreamExt, stream};
use prost::Message;
use tonic::{Request, Response, Status};

use super::cancel::{command, tickets};
use super::handles::unknown;
use super::service::{DoAction, Service};
use super::session_messages::{
    CloseSessionResult, CloseStatus, GetSessionOptionsResult, SetSessionOptionsRequest, SetSessionOptionsResult,
};
use super::{endpoints, poll, session_options};

/// Every action, and what it does.
pub const ACTIONS: [(&str, &str); 8] = [
    ("CreatePreparedStatement", "Prepares a statement: ActionCreatePreparedStatementRequest"),
    ("ClosePreparedStatement", "Forgets a prepared statement: ActionClosePreparedStatementRequest"),
    ("CancelQuery", "Stops a statement, in the older way: ActionCancelQueryRequest"),
    ("CancelFlightInfo", "Stops a statement: CancelFlightInfoRequest"),
    ("RenewFlightEndpoint", "Keeps a ticket for longer: RenewFlightEndpointRequest"),
    ("SetSessionOptions", "Sets options of the session, or of a new one: SetSessionOptionsRequest"),
    ("GetSessionOptions", "Tells the options of the session: GetSessionOptionsRequest"),
    ("CloseSession", "Closes the session: CloseSessionRequest"),
];

impl Service {
    /// Does what a client asks for by name.
    pub(super) fn act(&self, request: &Request<Action>) -> Result<Response<DoAction>, Status> {
        let action = request.get_ref();
        match action.r#type.as_str() {
            "CancelFlightInfo" => {
                let cancel: CancelFlightInfoRequest = body(action)?;
                let status = self.cancel(&cancel.info.unwrap_or_default(), &self.user(request)?)?;
                Ok(answer(&CancelFlightInfoResult { status: status as i32 }))
            }
            "RenewFlightEndpoint" => {
                let renew: RenewFlightEndpointRequest = body(action)?;
                let endpoint = self.renew(renew.endpoint.unwrap_or_default(), &self.user(request)?)?;
                Ok(answer(&endpoint))
            }
            "SetSessionOptions" => self.set_session_options(request),
            "GetSessionOptions" => {
                // A client without a session is told what its statements run with.
                let session = self.session(request)?;
                Ok(answer(&GetSessionOptionsResult { session_options: session_options::get(&session) }))
            }
            "CloseSession" => {
                let forget = self.sessions.close(request.metadata(), &self.user(request)?)?;
                let mut response = answer(&CloseSessionResult { status: CloseStatus::Closed as i32 });
                response.metadata_mut().insert("set-cookie", forget);
                Ok(response)
            }
            other => Err(Status::invalid_argument(format!("there is no action {other:?}: ListActions tells them"))),
        }
    }

    fn set_session_options(&self, request: &Request<Action>) -> Result<Response<DoAction>, Status> {
        let wanted: SetSessionOptionsRequest = body(request.get_ref())?;
        let existing = self.sessions.of(request.metadata(), &self.user(request)?)?;
        let is_new = existing.is_none();
        let session = existing.map_or_else(|| self.open_session(request), Ok)?;
        let errors = session_options::set(&session, wanted.session_options);
        let mut response = answer(&SetSessionOptionsResult { errors });
        if is_new {
            response.metadata_mut().insert("set-cookie", self.sessions.keep(session)?);
        }
        Ok(response)
    }

    /// Stops the statement that a result is of.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` if no statement of the user's is known by its tickets.
    pub(super) fn cancel(&self, info: &FlightInfo, user: &str) -> Result<CancelStatus, Status> {
        let (mut is_known, mut is_stopped) = (false, false);
        for ticket in tickets(info) {
            is_stopped |= match &ticket {
                Command::TicketStatementQuery(ticket) => {
                    let handle = &ticket.statement_handle;
                    let ran = self.running.stop(handle, user) | self.polled.stop(handle, user);
                    // What was not fetched yet will not be.
                    ran | self.handles.take(handle, user).is_ok() | endpoints::give_up(&self.engine, handle, user)
                }
                // The statement stays prepared; only its runs are stopped.
                Command::CommandPreparedStatementQuery(query) => {
                    let handle = &query.prepared_statement_handle;
                    is_known |= self.handles.get(handle, user).is_ok();
                    self.running.stop(handle, user)
                }
                _ => {
                    is_known = true;
                    false
                }
            };
        }
        match (is_stopped, is_known) {
            (true, _) => Ok(CancelStatus::Cancelled),
            (false, true) => Ok(CancelStatus::NotCancellable),
            (false, false) => Err(Status::not_found("no such statement is running, or waits to be fetched")),
        }
    }

    /// Keeps what a ticket stands for as if it were new.
    fn renew(&self, endpoint: FlightEndpoint, user: &str) -> Result<FlightEndpoint, Status> {
        let handle = match endpoint.ticket.as_ref().and_then(|ticket| command(&ticket.ticket)) {
            Some(Command::TicketStatementQuery(ticket)) => ticket.statement_handle,
            Some(Command::CommandPreparedStatementQuery(query)) => query.prepared_statement_handle,
            // Metadata can be asked for at any time.
            Some(_) => return Ok(endpoint),
            None => return Err(unknown()),
        };
        if self.polled.renew(&handle, user) {
            return Ok(endpoint.with_expiration_time(poll::expires().into()));
        }
        self.handles.get(&handle, user)?;
        Ok(endpoint.with_expiration_time(self.handles.expires().into()))
    }
}

/// The message in an action, which some clients wrap in an `Any`.
fn body<M: Message + Default>(action: &Action) -> Result<M, Status> {
    let wrapped = Any::decode(&*action.body).ok().filter(|any| any.type_url.starts_with("type.googleapis.com/"));
    let bytes = wrapped.map_or_else(|| action.body.clone(), |any| any.value);
    M::decode(bytes).map_err(|error| Status::invalid_argument(format!("the body of {}: {error}", action.r#type)))
}

fn answer(message: &impl Message) -> Response<DoAction> {
    let body = message.encode_to_vec().into();
    Response::new(stream::iter([Ok(arrow_flight::Result { body })]).boxed())
}
