//! Options in parentheses.

use sluice_executor::transfer::manifest::Compression;
use sluice_planner::statement::TransferOptions;
use sluice_planner::suggest::nearest;

use super::super::error::{EngineError, SqlState};

fn bad(name: &str, expected: &str) -> EngineError {
    EngineError::new(SqlState::INVALID_PARAMETER, format!("option {} takes {expected}", name.to_uppercase()))
}

/// Refuses options that a statement does not have.
pub fn only(options: &TransferOptions, statement: &str, known: &[&str]) -> Result<(), EngineError> {
    let Some(unknown) = options.keys().find(|name| !known.contains(&name.as_str())) else { return Ok(()) };
    let error = EngineError::new(SqlState::INVALID_PARAMETER, format!("{statement} has no option \"{unknown}\""));
    Err(match nearest(unknown, known.iter().copied()) {
        Some(name) => error.with_hint(format!("did you mean {}?", name.to_uppercase())),
        None => error.with_hint(format!("there are: {}", known.join(", ").to_uppercase())),
    })
}

/// An option's only value.
pub fn one<'a>(options: &'a TransferOptions, name: &str) -> Result<Option<&'a str>, EngineError> {
    match options.get(name).map(Vec::as_slice) {
        None => Ok(None),
        Some([value]) => Ok(Some(value)),
        Some(_) => Err(bad(name, "one value")),
    }
}

/// An option's values; none if it is not given.
pub fn list(options: &TransferOptions, name: &str) -> Vec<String> {
    options.get(name).cloned().unwrap_or_default()
}

/// A whole number within its limits.
pub fn number(options: &TransferOptions, name: &str, least: usize, most: usize) -> Result<Option<usize>, EngineError> {
    let Some(value) = one(options, name)? else { return Ok(None) };
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.map(Some).ok_or_else(|| bad(name, &format!("a whole number from {least} to {most}")))
}

/// How pages are compressed.
pub fn compression(options: &TransferOptions) -> Result<Compression, EngineError> {
    match one(options, "compression")? {
        None => Ok(Compression::default()),
        Some(name) => Compression::from_name(name).ok_or_else(|| bad("compression", "zstd, snappy, lz4, gzip or none")),
    }
}

/// Folders are of Parquet files only.
pub fn must_be_parquet(options: &TransferOptions) -> Result<(), EngineError> {
    match one(options, "format")? {
        None => Ok(()),
        Some(format) if format.eq_ignore_ascii_case("parquet") => Ok(()),
        Some(format) => Err(EngineError::not_supported(format!("a folder of {format} files"))
            .with_hint("folders are of Parquet files: FORMAT parquet")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &[&str])]) -> TransferOptions {
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        pairs.iter().map(|(name, values)| ((*name).to_owned(), owned(values))).collect()
    }

    #[test]
    fn a_wrong_option_is_told_with_the_right_ones() {
        let given = options(&[("compresion", &["zstd"])]);
        let error = only(&given, "COPY", &["compression"]).expect_err("is misspelt");
        assert_eq!(error.hint.as_deref(), Some("did you mean COMPRESSION?"));
        assert!(compression(&options(&[("compression", &["zip"])])).is_err());
        assert_eq!(compression(&options(&[("compression", &["ZSTD"])])).expect("is one"), Compression::Zstd);
        assert!(number(&options(&[("ranges", &["0"])]), "ranges", 1, 10).is_err());
        assert!(must_be_parquet(&options(&[("format", &["csv"])])).is_err());
    }
}
