//! `sluice sql`: a client to a running service over the PostgreSQL protocol.
//!
//! In reading order: [`connection`] and its encryption ([`tls`]), [`rows`], [`progress_bar`].

mod connection;
mod progress_bar;
mod rows;
mod tls;

use std::io::IsTerminal;
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use rustyline::error::ReadlineError;
use tokio::time::{Instant, interval_at};
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::DbError;

use super::args::{OutputFormat, SqlArgs};
use connection::{Connection, words};
use progress_bar::{ProgressBar, is_progress, is_wanted};
use rows::RowWriter;

/// A statement that is done by then needs no bar.
const BAR_AFTER: Duration = Duration::from_millis(500);
/// Time between two drawings of the bar.
const BAR_EVERY: Duration = Duration::from_millis(200);

/// Runs `-c` or opens a prompt.
pub async fn run(args: SqlArgs) -> Result<(), String> {
    let has_bar = is_wanted(args.progress);
    let connection = Connection::open(&args, has_bar).await?;
    let mut shell = Shell { connection, format: args.format, has_bar };
    match &args.command {
        Some(sql) => shell.run_cancellable(sql).await,
        None => shell.prompt().await,
    }
}

/// What statements are typed into.
struct Shell {
    connection: Connection,
    format: OutputFormat,
    has_bar: bool,
}

impl Shell {
    async fn prompt(&mut self) -> Result<(), String> {
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
                    if let Err(message) = self.run_cancellable(&statement).await {
                        eprintln!("{message}");
                    }
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

    /// Ctrl-C cancels the statement, and a second one gives up waiting for its end.
    async fn run_cancellable(&mut self, sql: &str) -> Result<(), String> {
        let cancel = self.connection.cancel();
        let running = self.execute(sql);
        pin_mut!(running);
        tokio::select! {
            result = &mut running => return result,
            _ = tokio::signal::ctrl_c() => {}
        }
        tokio::select! {
            result = async { cancel.await; running.await } => result,
            _ = tokio::signal::ctrl_c() => Err("the statement may still run".to_owned()),
        }
    }

    async fn execute(&mut self, sql: &str) -> Result<(), String> {
        let messages = self.connection.client.simple_query_raw(sql).await.map_err(|error| words(&error))?;
        pin_mut!(messages);
        let mut writer = RowWriter::new(self.format);
        let mut bar = self.has_bar.then(ProgressBar::new);
        let mut draw_bar = interval_at(Instant::now() + BAR_AFTER, BAR_EVERY);
        loop {
            let message = tokio::select! {
                biased;
                Some(notice) = self.connection.notices.recv() => {
                    self.tell(&notice, bar.as_mut());
                    continue;
                }
                message = messages.next() => message,
                _ = draw_bar.tick(), if bar.is_some() => {
                    bar.iter_mut().for_each(ProgressBar::draw);
                    continue;
                }
            };
            // Rows have the terminal for themselves; the next statement gets a bar of its own. The names of the
            // columns come before there are rows.
            match bar.as_mut() {
                Some(bar) if matches!(message, Some(Ok(SimpleQueryMessage::RowDescription(_)))) => bar.clear(),
                _ => bar = None,
            }
            match message.transpose().map_err(|error| words(&error))? {
                None => break,
                Some(SimpleQueryMessage::RowDescription(columns)) => {
                    writer.begin(columns.iter().map(|column| column.name().to_owned()).collect())
                }
                Some(SimpleQueryMessage::Row(row)) => writer.row(&row),
                Some(SimpleQueryMessage::CommandComplete(rows)) => {
                    bar = self.has_bar.then(ProgressBar::new);
                    draw_bar.reset_after(BAR_AFTER);
                    writer.end(rows)
                }
                Some(_) => Ok(()),
            }
            .map_err(|error| format!("cannot write the rows: {error}"))?;
        }
        while let Ok(notice) = self.connection.notices.try_recv() {
            self.tell(&notice, None);
        }
        Ok(())
    }

    /// Shows a notice, unless it is for the bar.
    fn tell(&self, notice: &DbError, bar: Option<&mut ProgressBar>) {
        if self.has_bar && is_progress(notice.message()) {
            if let Some(bar) = bar {
                bar.take(notice.message());
            }
            return;
        }
        if let Some(bar) = bar {
            bar.clear();
        }
        eprintln!("{}: {}", notice.severity(), notice.message());
        if let Some(hint) = notice.hint() {
            eprintln!("HINT: {hint}");
        }
    }
}
