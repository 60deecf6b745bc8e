//! `sluice sql`: a client to a running service over the PostgreSQL protocol.

use std::io::{IsTerminal, Write};

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use futures::{StreamExt, pin_mut};
use rustyline::error::ReadlineError;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::args::{OutputFormat, SqlArgs};

/// Rows of which one table is drawn; a longer result is drawn as several.
const TABLE_ROWS: usize = 10_000;

/// Runs `-c` or opens a prompt.
pub async fn run(args: SqlArgs) -> Result<(), String> {
    let client = connect(&args).await?;
    match &args.command {
        Some(sql) => execute(&client, sql, args.format).await,
        None => prompt(&client, &args).await,
    }
}

async fn connect(args: &SqlArgs) -> Result<Client, String> {
    let mut config = Config::new();
    if let Some(password) = &args.password {
        config.password(password);
    }
    let (client, connection) = config
        .host(&args.host)
        .port(args.port)
        .user(&args.user)
        .dbname(&args.database)
        .application_name("sluice sql")
        .connect(NoTls)
        .await
        .map_err(|error| {
            format!(
                "cannot connect to {}:{}: {} (is the service running? start it with: sluice serve)",
                args.host,
                args.port,
                words(&error)
            )
        })?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("sluice: connection lost: {}", words(&error));
        }
    });
    Ok(client)
}

/// The server's words with its hint, or what the driver says.
fn words(error: &tokio_postgres::Error) -> String {
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

async fn execute(client: &Client, sql: &str, format: OutputFormat) -> Result<(), String> {
    let messages = client.simple_query_raw(sql).await.map_err(|error| words(&error))?;
    pin_mut!(messages);
    let mut writer = RowWriter::new(format);
    while let Some(message) = messages.next().await {
        match message.map_err(|error| words(&error))? {
            SimpleQueryMessage::RowDescription(columns) => {
                writer.begin(columns.iter().map(|column| column.name().to_owned()).collect())
            }
            SimpleQueryMessage::Row(row) => writer.row(&row),
            SimpleQueryMessage::CommandComplete(rows) => writer.end(rows),
            _ => Ok(()),
        }
        .map_err(|error| format!("cannot write the rows: {error}"))?;
    }
    Ok(())
}

/// Writes rows as they come.
struct RowWriter {
    format: OutputFormat,
    columns: Option<Vec<String>>,
    buffered: Vec<Vec<Option<String>>>,
}

impl RowWriter {
    fn new(format: OutputFormat) -> Self {
        Self { format, columns: None, buffered: Vec::new() }
    }

    fn begin(&mut self, columns: Vec<String>) -> std::io::Result<()> {
        if self.format == OutputFormat::Csv {
            let header: Vec<String> = columns.iter().map(|name| csv_field(name)).collect();
            writeln!(std::io::stdout(), "{}", header.join(","))?;
        }
        self.columns = Some(columns);
        Ok(())
    }

    fn row(&mut self, row: &SimpleQueryRow) -> std::io::Result<()> {
        let values: Vec<Option<String>> = (0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect();
        match self.format {
            OutputFormat::Table => {
                self.buffered.push(values);
                if self.buffered.len() >= TABLE_ROWS { self.draw() } else { Ok(()) }
            }
            OutputFormat::Csv => {
                let fields: Vec<String> =
                    values.iter().map(|value| value.as_deref().map(csv_field).unwrap_or_default()).collect();
                writeln!(std::io::stdout(), "{}", fields.join(","))
            }
            OutputFormat::Json => {
                let names = self.columns.iter().flatten();
                let object: serde_json::Map<String, serde_json::Value> =
                    names.zip(values).map(|(name, value)| (name.clone(), value.into())).collect();
                writeln!(std::io::stdout(), "{}", serde_json::Value::Object(object))
            }
        }
    }

    fn end(&mut self, rows: u64) -> std::io::Result<()> {
        if self.format != OutputFormat::Table {
            self.columns = None;
            return Ok(());
        }
        if self.columns.is_some() {
            self.draw()?;
            self.columns = None;
            return writeln!(std::io::stdout(), "({rows} row{})\n", if rows == 1 { "" } else { "s" });
        }
        writeln!(std::io::stdout(), "OK ({rows} row{})", if rows == 1 { "" } else { "s" })
    }

    fn draw(&mut self) -> std::io::Result<()> {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN);
        table.set_header(self.columns.clone().unwrap_or_default());
        for row in self.buffered.drain(..) {
            table.add_row(row.into_iter().map(Option::unwrap_or_default));
        }
        writeln!(std::io::stdout(), "{table}")
    }
}

fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

async fn prompt(client: &Client, args: &SqlArgs) -> Result<(), String> {
    let mut editor = rustyline::DefaultEditor::new().map_err(|error| error.to_string())?;
    let history = super::config::default_data_dir().ok().map(|dir| dir.join("history"));
    if let Some(path) = &history {
        // A first session has no history yet.
        let _ = editor.load_history(path);
    }
    if std::io::stdin().is_terminal() {
        println!("Statements end with ;  \\q quits");
    }
    let mut statement = String::new();
    loop {
        let prompt = if statement.is_empty() { "sluice> " } else { "     -> " };
        match editor.readline(prompt) {
            Ok(line) if statement.is_empty() && matches!(line.trim(), "\\q" | "quit" | "exit") => break,
            Ok(line) => {
                statement.push_str(&line);
                statement.push('\n');
                if !line.trim_end().ends_with(';') {
                    continue;
                }
                // A line that cannot be kept for later is run all the same.
                let _ = editor.add_history_entry(statement.trim());
                run_cancellable(client, &statement, args.format).await;
                statement.clear();
            }
            Err(ReadlineError::Interrupted) => statement.clear(),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    if let Some(path) = &history {
        if let Some(parent) = path.parent() {
            let _ = std::fs::create_dir_all(parent);
        }
        let _ = editor.save_history(path);
    }
    Ok(())
}

/// Ctrl-C cancels the statement and not the prompt.
async fn run_cancellable(client: &Client, sql: &str, format: OutputFormat) {
    let cancel = client.cancel_token();
    let running = execute(client, sql, format);
    pin_mut!(running);
    let result = tokio::select! {
        result = &mut running => result,
        _ = tokio::signal::ctrl_c() => {
            if let Err(error) = cancel.cancel_query(NoTls).await {
                eprintln!("sluice: cannot cancel: {}", words(&error));
            }
            running.await
        }
    };
    if let Err(message) = result {
        eprintln!("{message}");
    }
}
