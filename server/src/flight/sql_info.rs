//! What the service says about itself: every entry of Flight SQL's `SqlInfo`, because drivers fail on those that lack.
//!
//! Enumerations and bit masks are those of
//! [FlightSql.proto](https://github.com/apache/arrow/blob/main/format/FlightSql.proto).

use std::collections::BTreeMap;

use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity, SqlSupportedTransaction};

/// No limit, or none that is known.
const NO_LIMIT: i64 = 0;
/// Bytes of one statement over this protocol.
const MOST_STATEMENT_BYTES: i64 = 16 << 20;
const NONE: i32 = 0;
/// The lowest two, three and four bits of a mask: all that FlightSql.proto has names for.
const TWO: i32 = 0b11;
const THREE: i32 = 0b111;
const FOUR: i32 = 0b1111;

const KEYWORDS: [&str; 10] =
    ["ANALYZE", "BACKUP", "CATALOG", "COMPARE", "KEYSPACE", "QUEUE", "REFRESH", "RESERVE", "RESTORE", "UNRESERVE"];
const NUMERIC: [&str; 22] = [
    "ABS", "ACOS", "ASIN", "ATAN", "ATAN2", "CEILING", "COS", "COT", "DEGREES", "EXP", "FLOOR", "LOG", "LOG10", "PI",
    "POWER", "RADIANS", "ROUND", "SIGN", "SIN", "SQRT", "TAN", "TRUNCATE",
];
const STRING: [&str; 13] = [
    "ASCII",
    "CHAR_LENGTH",
    "CONCAT",
    "LCASE",
    "LEFT",
    "LENGTH",
    "LTRIM",
    "REPEAT",
    "REPLACE",
    "RIGHT",
    "RTRIM",
    "SUBSTRING",
    "UCASE",
];
const SYSTEM: [&str; 2] = ["DATABASE", "USER"];
const TIME: [&str; 4] = ["CURDATE", "CURRENT_DATE", "CURRENT_TIMESTAMP", "NOW"];

/// All entries.
pub fn sql_info() -> Result<SqlInfoData> {
    use SqlInfo as Info;
    let mut builder = SqlInfoDataBuilder::new();
    for (info, text) in [
        (Info::FlightSqlServerName, "Sluice"),
        (Info::FlightSqlServerVersion, env!("CARGO_PKG_VERSION")),
        (Info::FlightSqlServerArrowVersion, "1.3"),
        (Info::FlightSqlServerSubstraitMinVersion, ""),
        (Info::FlightSqlServerSubstraitMaxVersion, ""),
        (Info::SqlIdentifierQuoteChar, "\""),
        (Info::SqlSearchStringEscape, "\\"),
        (Info::SqlExtraNameCharacters, ""),
        (Info::SqlSchemaTerm, "schema"),
        (Info::SqlProcedureTerm, "procedure"),
        (Info::SqlCatalogTerm, "catalog"),
    ] {
        builder.append(info, text);
    }
    for (info, is_so) in [
        (Info::FlightSqlServerReadOnly, false),
        (Info::FlightSqlServerSql, true),
        (Info::FlightSqlServerSubstrait, false),
        (Info::FlightSqlServerCancel, true),
        (Info::FlightSqlServerBulkIngestion, true),
        (Info::FlightSqlServerIngestTransactionsSupported, false),
        (Info::SqlDdlCatalog, true),
        (Info::SqlDdlSchema, true),
        (Info::SqlDdlTable, true),
        (Info::SqlAllTablesAreSelectable, true),
        (Info::SqlSupportsColumnAliasing, true),
        (Info::SqlNullPlusNullIsNull, true),
        (Info::SqlSupportsTableCorrelationNames, true),
        (Info::SqlSupportsDifferentTableCorrelationNames, false),
        (Info::SqlSupportsExpressionsInOrderBy, true),
        (Info::SqlSupportsOrderByUnrelated, true),
        (Info::SqlSupportsLikeEscapeClause, true),
        (Info::SqlSupportsNonNullableColumns, true),
        (Info::SqlSupportsIntegrityEnhancementFacility, false),
        (Info::SqlCatalogAtStart, true),
        (Info::SqlSelectForUpdateSupported, false),
        (Info::SqlStoredProceduresSupported, false),
        (Info::SqlCorrelatedSubqueriesSupported, true),
        (Info::SqlMaxRowSizeIncludesBlobs, true),
        (Info::SqlTransactionsSupported, false),
        (Info::SqlDataDefinitionCausesTransactionCommit, false),
        (Info::SqlDataDefinitionsInTransactionsIgnored, false),
        (Info::SqlBatchUpdatesSupported, true),
        (Info::SqlSavepointsSupported, false),
        (Info::SqlNamedParametersSupported, false),
        (Info::SqlLocatorsUpdateCopy, false),
        (Info::SqlStoredFunctionsUsingCallSyntaxSupported, false),
    ] {
        builder.append(info, is_so);
    }
    for (info, value) in [
        (Info::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32),
        (Info::FlightSqlServerStatementTimeout, NONE),
        (Info::FlightSqlServerTransactionTimeout, NONE),
        (Info::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32),
        (Info::SqlQuotedIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32),
        (Info::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32),
        (Info::SqlSupportedGroupBy, TWO),
        (Info::SqlSupportedGrammar, THREE),
        (Info::SqlAnsi92SupportedLevel, 1),
        // Limited and full outer joins.
        (Info::SqlOuterJoinsSupportLevel, 0b110),
        (Info::SqlSchemasSupportedActions, NONE),
        (Info::SqlCatalogsSupportedActions, NONE),
        (Info::SqlSupportedPositionedCommands, NONE),
        (Info::SqlSupportedSubqueries, FOUR),
        (Info::SqlSupportedUnions, TWO),
        (Info::SqlDefaultTransactionIsolation, NONE),
        // No isolation, because there are no transactions.
        (Info::SqlSupportedTransactionsIsolationLevels, 0b1),
        // Forward only, and to be read only.
        (Info::SqlSupportedResultSetTypes, 0b10),
        (Info::SqlSupportedConcurrenciesForResultSetUnspecified, NONE),
        (Info::SqlSupportedConcurrenciesForResultSetForwardOnly, 0b10),
        (Info::SqlSupportedConcurrenciesForResultSetScrollSensitive, NONE),
        (Info::SqlSupportedConcurrenciesForResultSetScrollInsensitive, NONE),
    ] {
        builder.append(info, value);
    }
    for (info, limit) in [
        (Info::SqlMaxBinaryLiteralLength, NO_LIMIT),
        (Info::SqlMaxCharLiteralLength, NO_LIMIT),
        (Info::SqlMaxColumnNameLength, NO_LIMIT),
        (Info::SqlMaxColumnsInGroupBy, NO_LIMIT),
        (Info::SqlMaxColumnsInIndex, NO_LIMIT),
        (Info::SqlMaxColumnsInOrderBy, NO_LIMIT),
        (Info::SqlMaxColumnsInSelect, NO_LIMIT),
        (Info::SqlMaxColumnsInTable, NO_LIMIT),
        (Info::SqlMaxConnections, NO_LIMIT),
        (Info::SqlMaxCursorNameLength, NO_LIMIT),
        (Info::SqlMaxIndexLength, NO_LIMIT),
        (Info::SqlDbSchemaNameLength, NO_LIMIT),
        (Info::SqlMaxProcedureNameLength, NO_LIMIT),
        (Info::SqlMaxCatalogNameLength, NO_LIMIT),
        (Info::SqlMaxRowSize, NO_LIMIT),
        (Info::SqlMaxStatementLength, MOST_STATEMENT_BYTES),
        (Info::SqlMaxStatements, NO_LIMIT),
        (Info::SqlMaxTableNameLength, NO_LIMIT),
        (Info::SqlMaxTablesInSelect, NO_LIMIT),
        (Info::SqlMaxUsernameLength, NO_LIMIT),
    ] {
        builder.append(info, limit);
    }
    for (info, names) in [
        (Info::SqlKeywords, &KEYWORDS[..]),
        (Info::SqlNumericFunctions, &NUMERIC),
        (Info::SqlStringFunctions, &STRING),
        (Info::SqlSystemFunctions, &SYSTEM),
        (Info::SqlDatetimeFunctions, &TIME),
    ] {
        builder.append(info, names);
    }
    builder.append(Info::SqlSupportsConvert, BTreeMap::<i32, Vec<i32>>::new());
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_there() {
        // The numbers that FlightSql.proto gives, without those that it leaves out.
        let known: Vec<u32> = (0..600).filter(|number| SqlInfo::try_from(*number as i32).is_ok()).collect();
        let data = sql_info().expect("is built");
        let batch = data.record_batch(known.clone()).expect("is a batch");
        assert_eq!(batch.num_rows(), known.len(), "{known:?}");
        assert!(known.len() > 85);
    }
}
