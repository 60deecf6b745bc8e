//! `pg_sleep(seconds)`, which takes no thread while it waits, and ends when its statement does.

use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{ScalarValue, exec_err, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::async_udf::AsyncScalarUDFImpl;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// The function; its result is an empty text, in the place of PostgreSQL's `void`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Sleep {
    signature: Signature,
}

impl Default for Sleep {
    fn default() -> Self {
        Self { signature: Signature::exact(vec![DataType::Float64], Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for Sleep {
    fn name(&self) -> &str {
        "pg_sleep"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("pg_sleep runs in its own operator")
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Sleep {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let seconds: f64 = match args.args.first() {
            Some(ColumnarValue::Scalar(ScalarValue::Float64(seconds))) => {
                seconds.unwrap_or(0.0) * args.number_rows as f64
            }
            // One row after another.
            Some(ColumnarValue::Array(seconds)) => seconds.as_primitive::<Float64Type>().iter().flatten().sum(),
            _ => 0.0,
        };
        match Duration::try_from_secs_f64(seconds.max(0.0)) {
            Ok(duration) => tokio::time::sleep(duration).await,
            Err(_) => return exec_err!("pg_sleep takes a number of seconds"),
        }
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(String::new()))))
    }
}
