//! Rows on standard output: as tables, CSV or JSON.

use std::io::Write;

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use tokio_postgres::SimpleQueryRow;

use super::super::args::OutputFormat;

/// Rows of which one table is drawn; a longer result is drawn as several.
const TABLE_ROWS: usize = 10_000;

/// Writes rows as they come.
pub struct RowWriter {
    format: OutputFormat,
    columns: Option<Vec<String>>,
    buffered: Vec<Vec<Option<String>>>,
}

impl RowWriter {
    /// Writes nothing yet.
    pub fn new(format: OutputFormat) -> Self {
        Self { format, columns: None, buffered: Vec::new() }
    }

    /// The columns of the rows that come now.
    pub fn begin(&mut self, columns: Vec<String>) -> std::io::Result<()> {
        if self.format == OutputFormat::Csv {
            let header: Vec<String> = columns.iter().map(|name| csv_field(name)).collect();
            writeln!(std::io::stdout(), "{}", header.join(","))?;
        }
        self.columns = Some(columns);
        Ok(())
    }

    /// A row.
    pub fn row(&mut self, row: &SimpleQueryRow) -> std::io::Result<()> {
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

    /// The end of a statement, after so many rows.
    pub fn end(&mut self, rows: u64) -> std::io::Result<()> {
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
