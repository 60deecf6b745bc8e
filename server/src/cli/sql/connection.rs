//! A connection to the service.

use std::io::IsTerminal;

use tokio::sync::mpsc;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Client, Config};

use super::super::args::SqlArgs;
use super::tls::ClientTls;

/// Notices that wait to be shown; the service keeps as many for a client.
const NOTICES_KEPT: usize = 100;

/// A client of the service, and what the service tells it besides results.
pub struct Connection {
    /// Sends statements.
    pub client: Client,
    /// Notices, in the order in which they come.
    pub notices: mpsc::Receiver<DbError>,
    tls: ClientTls,
}

impl Connection {
    /// Connects, and asks a person for a password that the service wants and nobody has said.
    ///
    /// Errors: in the service's words, or those of what keeps it from answering.
    pub async fn open(args: &SqlArgs, progress: bool) -> Result<Self, String> {
        let tls = ClientTls::new(args)?;
        let mut config = Config::new();
        config
            .host(&args.host)
            .port(args.port)
            .user(&args.user)
            .dbname(&args.database)
            .application_name("sluice sql")
            .ssl_mode(tls.mode);
        if progress {
            config.options("-c progress=on");
        }
        // The password of this service's own variable, or the one that other clients of PostgreSQL take.
        let said = args.password.clone().or_else(|| std::env::var("PGPASSWORD").ok());
        let is_said = said.is_some();
        if let Some(password) = said {
            config.password(password);
        }
        let connected = match Self::connect(&config, &tls).await {
            Err(error) if !is_said && wants_password(&error) && std::io::stdin().is_terminal() => {
                let prompt = format!("Password of {}: ", args.user);
                config.password(rpassword::prompt_password(prompt).map_err(|error| error.to_string())?);
                Self::connect(&config, &tls).await
            }
            connected => connected,
        };
        connected.map_err(|error| {
            let hint = if error.as_db_error().is_some() || wants_password(&error) {
                ""
            } else {
                " (is the service running? start it with: sluice serve)"
            };
            format!("cannot connect to {}:{}: {}{hint}", args.host, args.port, words(&error))
        })
    }

    async fn connect(config: &Config, tls: &ClientTls) -> Result<Self, tokio_postgres::Error> {
        let (client, mut connection) = config.connect(tls.connect.clone()).await?;
        let (sender, notices) = mpsc::channel(NOTICES_KEPT);
        tokio::spawn(async move {
            loop {
                match std::future::poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notice(notice))) => {
                        // Nobody reads more than there is room for.
                        let _ = sender.try_send(notice);
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        eprintln!("sluice: connection lost: {}", words(&error));
                        return;
                    }
                    None => return,
                }
            }
        });
        Ok(Self { client, notices, tls: tls.clone() })
    }

    /// Has the service stop the statement that runs, by a connection of its own that is encrypted as this one is.
    pub fn cancel(&self) -> impl Future<Output = ()> + use<> {
        let (token, connect) = (self.client.cancel_token(), self.tls.connect.clone());
        async move {
            if let Err(error) = token.cancel_query(connect).await {
                eprintln!("sluice: cannot cancel: {}", words(&error));
            }
        }
    }
}

/// Whether a login failed because there was no password to send.
fn wants_password(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.to_string() == "password missing")
}

/// The service's words with its hint, or what the driver says.
pub fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let hint = db.hint().map(|hint| format!("\nHINT: {hint}")).unwrap_or_default();
            let detail = db.detail().map(|detail| format!("\nDETAIL: {detail}")).unwrap_or_default();
            format!("{} {}: {}{detail}{hint}", db.severity(), db.code().code(), db.message())
        }
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}
